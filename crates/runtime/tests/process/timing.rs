crate::tests! { root: ; any: }
