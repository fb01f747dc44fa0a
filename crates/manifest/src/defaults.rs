//! defaults
use crate::load::Options;
use crate::object::Object;
pub(crate) fn object(_o: &mut Object, _options: &Options) {}
