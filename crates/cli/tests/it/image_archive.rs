//! Images for a runtime that has some of its own.

use std::path::Path;

use holdfast_e2e::image::{Image, Node, busybox};

/// What holds a sandbox: busybox too.
pub const PAUSE: &str = "test.local/pause:1";
/// busybox, and nothing said about how to run it.
pub const BUSYBOX: &str = "test.local/busybox:1";
/// One that says everything an image can say.
pub const WEB: &str = "test.local/web:1";

/// Writes an archive of one of them.
pub fn write(name: &str, archive: &Path) {
    let words = |text: &[&str]| text.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let mut image = busybox(Image::new(name)).unwrap();
    match name {
        PAUSE => image.entrypoint = words(&["tail", "-f", "/dev/null"]),
        WEB => {
            let data = |text: &str| Node::Data(text.as_bytes().to_vec(), 0o644);
            image = image
                .with("srv", Node::Dir(0o755))
                .with("etc/passwd", data("root:x:0:0:root:/:/bin/sh\nweb:x:101:102::/:/bin/sh\n"))
                .with("etc/group", data("root:x:0:\nweb:x:102:\nextra:x:200:web\n"));
            image.entrypoint = words(&["sh", "-c"]);
            image.cmd = words(&["id; pwd; echo $FROM"]);
            image.env = words(&["FROM=image"]);
            image.user = "web".to_owned();
            image.workdir = "/srv".to_owned();
            image.stop_signal = "SIGUSR1".to_owned();
        }
        _ => image.cmd = words(&["sh"]),
    }
    image.write(archive).unwrap();
}
