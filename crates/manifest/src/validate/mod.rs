//! validate
use crate::diagnostic::FieldError;
use crate::load::Options;
use crate::object::Object;
pub(crate) fn object(_o: &Object, _options: &Options) -> (Vec<FieldError>, usize) {
    (Vec::new(), 0)
}
