//! `coroutine_class!`: the parts of a coroutine's class that are the same for each.

/// Implements `Hot` for a [`Coroutine`](super::coroutine::Coroutine) with a field `state`: name
/// and docstring of the class, constants of `Hot`, and the fields that are `GcFields`.
macro_rules! coroutine_class {
    (
        $type:ident: $name:literal, $doc:literal;
        $(const $constant:ident: $kind:ty = $value:expr;)*
        holds $($field:ident),*;
    ) => {
        impl AsRef<$crate::coroutines::coroutine::CoroutineState> for $type {
            #[inline]
            fn as_ref(&self) -> &$crate::coroutines::coroutine::CoroutineState {
                &self.state
            }
        }

        impl ::cpython::Hot for $type {
            type Parent = ::cpython::NoParent;
            const NAME: &'static ::std::ffi::CStr = $name;
            const DOC: &'static ::std::ffi::CStr = $doc;
            const SUBCLASSABLE: bool = false;
            const BASED: bool = false;
            $(const $constant: $kind = $value;)*
            ::cpython::hot_type!();
            ::cpython::holds!($($field,)* state);

            fn build(builder: &mut ::cpython::build::Builder<Self>) {
                $crate::coroutines::coroutine::build_coroutine(builder);
            }

            fn may_move(this: &::cpython::Ref<Self>) -> bool {
                this.state.is_new()
            }

            fn needs_finalizer(&self, _: &::cpython::NoParent) -> bool {
                self.state.needs_finalizer()
            }

            fn finalize(this: &::cpython::Ref<Self>) {
                $crate::coroutines::coroutine::finalize(this);
            }
        }
    };
}

pub(crate) use coroutine_class;
