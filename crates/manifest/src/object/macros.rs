//! One definition of an API object gives its Rust type, its JSON form and its table of known fields.

/// Whether a field would be left out of the JSON form (Go's `omitempty`).
pub(crate) trait Empty {
    fn is_empty(&self) -> bool;
}

impl Empty for bool {
    fn is_empty(&self) -> bool {
        !*self
    }
}

impl Empty for i32 {
    fn is_empty(&self) -> bool {
        *self == 0
    }
}

impl Empty for i64 {
    fn is_empty(&self) -> bool {
        *self == 0
    }
}

impl Empty for String {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Empty for Vec<T> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Empty for Option<T> {
    fn is_empty(&self) -> bool {
        self.is_none()
    }
}

impl<K, V> Empty for std::collections::BTreeMap<K, V> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// Defines API objects.
///
/// A field is `name: Type,` (JSON name in camel case) or `name = "jsonName": Type,` where
/// Kubernetes' spelling differs. A field that is empty (zero, `""`, `[]`, `{}`, `None`) is left out
/// of the JSON form, as the API server leaves it out.
macro_rules! objects {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* $field:ident $(= $json:literal)? : $ty:ty, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $(
                $(#[$fmeta])*
                $(#[serde(rename = $json)])?
                #[serde(skip_serializing_if = "crate::object::macros::Empty::is_empty")]
                pub $field: $ty,
            )*
        }

        impl $name {
            /// The JSON names of its fields.
            pub const FIELDS: &'static [&'static str] =
                &[$(crate::object::macros::json_name!($field $(, $json)?)),*];
        }

        impl crate::object::macros::Empty for $name {
            fn is_empty(&self) -> bool {
                // A struct that is not behind an Option is always written (`resources: {}`).
                false
            }
        }

        impl crate::decode::Decode for $name {
            #[allow(
                non_upper_case_globals,
                nonstandard_style,
                reason = "the constants are named after the fields they belong to"
            )]
            fn decode(
                // Underscores keep these names apart from the constants below.
                __node: crate::tree::NodeId,
                __cx: &mut crate::decode::Decoder<'_>,
            ) -> Self {
                $(
                    const $field: &str = crate::object::macros::json_name!($field $(, $json)?);
                )*
                let mut __out = Self::default();
                __cx.object(__node, Self::FIELDS, &mut |__cx, __key, __value| match __key {
                    $(
                        $field => {
                            __out.$field = crate::decode::Decode::decode(__value, __cx);
                            true
                        }
                    )*
                    _ => false,
                });
                __out
            }
        }
    )*};
}

/// The JSON name of a field: given, or the Rust name in camel case.
macro_rules! json_name {
    ($field:ident, $json:literal) => {
        $json
    };
    ($field:ident) => {{
        const SNAKE: &str = stringify!($field);
        const BYTES: [u8; crate::object::macros::camel_len(SNAKE)] =
            crate::object::macros::camel(SNAKE);
        crate::object::macros::utf8(&BYTES)
    }};
}

/// The length of `snake` in camel case.
pub(crate) const fn camel_len(snake: &str) -> usize {
    let bytes = snake.as_bytes();
    let mut len = 0;
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'_' {
            len += 1;
        }
        i += 1;
    }
    len
}

/// `snake` in camel case, as serde's `rename_all = "camelCase"` makes it.
pub(crate) const fn camel<const N: usize>(snake: &str) -> [u8; N] {
    let bytes = snake.as_bytes();
    let mut out = [0; N];
    let (mut i, mut o, mut upper) = (0, 0, false);
    while i < bytes.len() {
        if bytes[i] == b'_' {
            upper = true;
        } else {
            out[o] = if upper { bytes[i].to_ascii_uppercase() } else { bytes[i] };
            o += 1;
            upper = false;
        }
        i += 1;
    }
    out
}

/// The bytes of a Rust identifier as text; evaluated when compiling.
pub(crate) const fn utf8(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("a Rust identifier is UTF-8"),
    }
}

pub(crate) use json_name;

pub(crate) use objects;
