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

        impl crate::object::macros::Empty for $name {
            fn is_empty(&self) -> bool {
                // A struct that is not behind an Option is always written (`resources: {}`).
                false
            }
        }
    )*};
}

pub(crate) use objects;
