//! Fields as attributes, for asyncio's code and for programs that look at them.

/// An attribute with a slot behind it, which shows nothing as None.
macro_rules! slot_property {
    ($builder:expr, $name:literal, $doc:literal, $field:ident) => {
        $builder.get_set(
            $name,
            $doc,
            |this| this.$field.get(),
            |this, value| {
                this.$field.set(value.cloned().and_then(Obj::not_none));
                Ok(())
            },
        )
    };
}
pub(super) use slot_property;

/// An attribute with a flag behind it.
macro_rules! flag_property {
    ($builder:expr, $name:literal, $doc:literal, $field:ident) => {
        $builder.get_set(
            $name,
            $doc,
            |this| this.$field.get(),
            |this, value| {
                let flag = value.map_or(Ok(false), Obj::truth)?;
                this.$field.set(flag);
                Ok(())
            },
        )
    };
}
pub(super) use flag_property;
