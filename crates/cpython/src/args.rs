//! The arguments of a call that comes from Python.

use pyo3::ffi;

use crate::critical_section::locked;
use crate::error::Raised;
use crate::obj::Obj;

/// Positional and keyword arguments, borrowed for the duration of the call.
pub struct Args<'a> {
    /// The positional arguments.
    pub positional: &'a [Obj],
    keywords: Keywords<'a>,
}

enum Keywords<'a> {
    None,
    /// The names in a tuple; the values lie behind the positional arguments (vectorcall).
    Vector(&'a Obj, &'a [Obj]),
    /// All keyword arguments in a dict (`tp_init`, `tp_new`).
    Dict(&'a Obj),
}

impl<'a> Args<'a> {
    /// The arguments of a vectorcall.
    pub(crate) fn vector(positional: &'a [Obj], names: Option<&'a Obj>, values: &'a [Obj]) -> Self {
        let keywords = match names {
            Some(names) if names.tuple_len() > 0 => Keywords::Vector(names, values),
            _ => Keywords::None,
        };
        Args {
            positional,
            keywords,
        }
    }

    /// The arguments of a call by tuple and dict.
    pub(crate) fn classic(positional: &'a [Obj], keywords: Option<&'a Obj>) -> Self {
        Args {
            positional,
            keywords: keywords.map_or(Keywords::None, Keywords::Dict),
        }
    }

    /// The positional arguments, if there are no keyword arguments.
    #[inline]
    pub fn only_positional(&self) -> Option<&'a [Obj]> {
        matches!(self.keywords, Keywords::None).then_some(self.positional)
    }

    /// Whether there are keyword arguments.
    #[inline]
    pub fn has_keywords(&self) -> bool {
        self.keyword_count() > 0
    }

    fn keyword_count(&self) -> usize {
        match &self.keywords {
            Keywords::None => 0,
            Keywords::Vector(names, _) => names.tuple_len(),
            // SAFETY: the dict is alive; CPython made it for the call.
            Keywords::Dict(dict) => unsafe { ffi::PyDict_Size(dict.as_ptr()).max(0) as usize },
        }
    }

    fn keyword(&self, name: &str) -> Result<Option<Obj>, Raised> {
        match &self.keywords {
            Keywords::None => Ok(None),
            Keywords::Vector(names, values) => {
                for (index, value) in values.iter().enumerate() {
                    if let Some(key) = names.tuple_item(index) {
                        if key.as_str()? == name {
                            return Ok(Some(value.clone()));
                        }
                    }
                }
                Ok(None)
            }
            Keywords::Dict(dict) => find(dict, name),
        }
    }

    /// The keyword arguments' names.
    fn keyword_names(&self) -> Result<Vec<Obj>, Raised> {
        let mut found = Vec::new();
        match &self.keywords {
            Keywords::None => {}
            Keywords::Vector(names, _) => {
                found.extend((0..names.tuple_len()).filter_map(|index| names.tuple_item(index)));
            }
            Keywords::Dict(dict) => {
                let iterator = dict.iter()?;
                while let Some(key) = iterator.next()? {
                    found.push(key);
                }
            }
        }
        Ok(found)
    }

    /// All arguments as a tuple and a dict, to hand them on.
    pub fn to_tuple_and_dict(&self, py: pyo3::Python<'_>) -> Result<(Obj, Option<Obj>), Raised> {
        let tuple = Obj::tuple(py, self.positional)?;
        let dict = match &self.keywords {
            Keywords::None => None,
            Keywords::Dict(dict) => Some((*dict).clone()),
            Keywords::Vector(names, values) => {
                let dict = Obj::dict(py)?;
                for (index, value) in values.iter().enumerate() {
                    if let Some(key) = names.tuple_item(index) {
                        dict.dict_set(&key, value)?;
                    }
                }
                Some(dict)
            }
        };
        Ok((tuple, dict))
    }

    /// The keyword argument of that name, borrowed as the positional ones are. Only a vectorcall
    /// lends it; otherwise there is none.
    pub fn named(&self, name: &str) -> Option<&'a Obj> {
        let Keywords::Vector(names, values) = &self.keywords else {
            return None;
        };
        let values: &'a [Obj] = values;
        values.iter().enumerate().find_map(|(index, value)| {
            let key = names.tuple_item(index)?;
            (key.as_str().ok()? == name).then_some(value)
        })
    }

    /// The keyword argument of a function that takes any number of positional arguments and only
    /// this one by keyword. Raises TypeError if there are others.
    pub fn only_keyword(&self, function: &str, name: &str) -> Result<Option<Obj>, Raised> {
        self.keyword_besides(function, name, &[])
    }

    /// Raises TypeError if there is a keyword argument, as a Python function of any number of
    /// positional arguments does.
    pub fn no_keywords(&self, function: &str) -> Result<(), Raised> {
        match self.keyword_names()?.first() {
            Some(key) => Err(Raised::type_error(
                key.py(),
                &format!(
                    "{function}() got an unexpected keyword argument '{}'",
                    key.to_string()?
                ),
            )),
            None => Ok(()),
        }
    }

    /// The keyword argument `name`. Raises TypeError if there are others than it and `rest`.
    pub fn keyword_besides(
        &self,
        function: &str,
        name: &str,
        rest: &[&str],
    ) -> Result<Option<Obj>, Raised> {
        let value = self.keyword(name)?;
        if self.keyword_count() > usize::from(value.is_some()) {
            for key in self.keyword_names()? {
                let text = key.to_string()?;
                if text != name && !rest.contains(&text.as_str()) {
                    return Err(Raised::type_error(
                        key.py(),
                        &format!("{function}() got an unexpected keyword argument '{text}'"),
                    ));
                }
            }
        }
        Ok(value)
    }

    /// Sorts the arguments into the parameters named, as a Python function would.
    ///
    /// `positional` of the parameters may be given by position, the first `required` must be
    /// given. Raises TypeError with CPython's texts.
    #[inline]
    pub fn bind<const N: usize>(
        &self,
        function: &str,
        parameters: &[&str; N],
        positional: usize,
        required: usize,
    ) -> Result<[Option<Obj>; N], Raised> {
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional).take(positional) {
            *slot = Some(value.clone());
        }
        let plain = matches!(self.keywords, Keywords::None);
        if plain && self.positional.len() >= required && self.positional.len() <= positional {
            return Ok(bound);
        }
        self.bind_slowly(function, parameters, positional, required, bound)
    }

    #[cold]
    fn bind_slowly<const N: usize>(
        &self,
        function: &str,
        parameters: &[&str; N],
        positional: usize,
        required: usize,
        mut bound: [Option<Obj>; N],
    ) -> Result<[Option<Obj>; N], Raised> {
        // SAFETY: a call from Python is in progress, so the thread is attached.
        let py = unsafe { pyo3::Python::assume_attached() };
        let given = self.positional.len();
        let all = given + self.keyword_count();
        if all > N {
            let plural = if N == 1 { "" } else { "s" };
            let kind = if required < N { "at most" } else { "exactly" };
            let by_name = if given == 0 { "keyword " } else { "" };
            let text =
                format!("{function}() takes {kind} {N} {by_name}argument{plural} ({all} given)");
            return Err(Raised::type_error(py, &text));
        }
        if given > positional {
            let plural = if positional == 1 { "" } else { "s" };
            let kind = if required == positional {
                "exactly"
            } else {
                "at most"
            };
            let text = if positional == 0 {
                format!("{function}() takes no positional arguments")
            } else {
                format!(
                    "{function}() takes {kind} {positional} positional argument{plural} \
                     ({given} given)"
                )
            };
            return Err(Raised::type_error(py, &text));
        }
        let mut used = 0;
        for (index, name) in parameters.iter().enumerate() {
            if let Some(value) = self.keyword(name)? {
                if bound[index].is_some() {
                    return Err(Raised::type_error(
                        py,
                        &format!(
                            "argument for {function}() given by name ('{name}') and position \
                             ({})",
                            index + 1
                        ),
                    ));
                }
                bound[index] = Some(value);
                used += 1;
            }
        }
        if used != self.keyword_count() {
            for key in self.keyword_names()? {
                let key = key.to_string()?;
                if !parameters.contains(&key.as_str()) {
                    return Err(Raised::type_error(
                        py,
                        &format!("{function}() got an unexpected keyword argument '{key}'"),
                    ));
                }
            }
        }
        for (index, slot) in bound.iter().enumerate().take(required) {
            if slot.is_none() {
                return Err(Raised::type_error(
                    py,
                    &format!(
                        "{function}() missing required argument '{}' (pos {})",
                        parameters[index],
                        index + 1
                    ),
                ));
            }
        }
        Ok(bound)
    }
    /// The one argument of a method that asyncio has in Python, given by position or by name.
    /// Raises TypeError as a Python function does.
    #[inline]
    pub fn one(&self, function: &str, parameter: &str) -> Result<&'a Obj, Raised> {
        match (self.positional, &self.keywords) {
            ([only], Keywords::None) => Ok(only),
            _ => self.one_slowly(function, parameter),
        }
    }

    #[cold]
    fn one_slowly(&self, function: &str, parameter: &str) -> Result<&'a Obj, Raised> {
        self.check_as_python(1, function, &[parameter], 1, 1)?;
        let given = self.positional.first();
        given.or_else(|| self.named(parameter)).ok_or_else(|| {
            // SAFETY: a call from Python is in progress, so the thread is attached.
            let py = unsafe { pyo3::Python::assume_attached() };
            missing(py, function, &[parameter])
        })
    }

    /// Sorts the arguments of a method into the parameters named, all of which may be given by
    /// position; the first `required` must be given. Raises TypeError with the texts of a method
    /// written in Python, for which `function` is the qualified name.
    #[inline]
    pub fn bind_as_python<const N: usize>(
        &self,
        function: &str,
        parameters: &[&str; N],
        required: usize,
    ) -> Result<[Option<Obj>; N], Raised> {
        self.bind_beside(1, function, parameters, N, required)
    }

    /// As [`Args::bind_as_python`], for a function instead of a method: there is no `self` to
    /// count.
    #[inline]
    pub fn bind_function<const N: usize>(
        &self,
        function: &str,
        parameters: &[&str; N],
        required: usize,
    ) -> Result<[Option<Obj>; N], Raised> {
        self.bind_beside(0, function, parameters, N, required)
    }

    /// As [`Args::bind_function`], for a function whose first `positional` parameters alone may be
    /// given by position.
    #[inline]
    pub fn bind_function_in_part<const N: usize>(
        &self,
        function: &str,
        parameters: &[&str; N],
        positional: usize,
        required: usize,
    ) -> Result<[Option<Obj>; N], Raised> {
        self.bind_beside(0, function, parameters, positional, required)
    }

    /// Binds the arguments. `taken` is the number of arguments that Python counts beside these: 1
    /// for `self`, otherwise 0.
    #[inline]
    fn bind_beside<const N: usize>(
        &self,
        taken: usize,
        function: &str,
        parameters: &[&str; N],
        positional: usize,
        required: usize,
    ) -> Result<[Option<Obj>; N], Raised> {
        let plain = matches!(self.keywords, Keywords::None);
        if !plain || self.positional.len() < required || self.positional.len() > positional {
            self.check_as_python(taken, function, parameters, positional, required)?;
        }
        let mut bound = [const { None }; N];
        for (index, slot) in bound.iter_mut().enumerate() {
            *slot = match self.positional.get(index) {
                Some(value) => Some(value.clone()),
                None => self.keyword(parameters[index])?,
            };
        }
        Ok(bound)
    }

    /// Raises TypeError as a Python method does, if the arguments do not fit.
    #[cold]
    fn check_as_python(
        &self,
        taken: usize,
        function: &str,
        parameters: &[&str],
        positional: usize,
        required: usize,
    ) -> Result<(), Raised> {
        // SAFETY: a call from Python is in progress, so the thread is attached.
        let py = unsafe { pyo3::Python::assume_attached() };
        let given = self.positional.len();
        let mut names = Vec::new();
        for key in self.keyword_names()? {
            let key = key.to_string()?;
            let problem = match parameters.iter().position(|name| *name == key) {
                None => "an unexpected keyword argument",
                Some(index) if index < given.min(positional) => "multiple values for argument",
                Some(_) => {
                    names.push(key);
                    continue;
                }
            };
            let text = format!("{function}() got {problem} '{key}'");
            return Err(Raised::type_error(py, &text));
        }
        // Python's messages count `self`.
        let (least, most) = (required + taken, positional + taken);
        let given_and_self = given + taken;
        if given > positional {
            let takes = if least == most {
                format!("{most}")
            } else {
                format!("from {least} to {most}")
            };
            let plural = if most == 1 { "" } else { "s" };
            let by_name = names.iter().filter(|name| {
                let place = parameters.iter().position(|parameter| parameter == name);
                place.is_some_and(|place| place >= positional)
            });
            // Python's message also counts the keyword-only arguments that were given.
            let more = match by_name.count() {
                0 => String::new(),
                count => {
                    let plurals =
                        [given_and_self, count].map(|count| if count == 1 { "" } else { "s" });
                    let [plural, plural_by_name] = plurals;
                    format!(
                        " positional argument{plural} (and {count} keyword-only \
                         argument{plural_by_name})"
                    )
                }
            };
            let text = format!(
                "{function}() takes {takes} positional argument{plural} but {given_and_self}{more} \
                 were given"
            );
            return Err(Raised::type_error(py, &text));
        }
        let absent: Vec<&str> = parameters[..required]
            .iter()
            .skip(given)
            .copied()
            .filter(|name| !names.iter().any(|given| given == name))
            .collect();
        if absent.is_empty() {
            Ok(())
        } else {
            Err(missing(py, function, &absent))
        }
    }
}

/// The value of a name in a dict of keyword arguments. The dict has few names: comparing them costs
/// less than making a string and its hash for a look-up.
fn find(keywords: &Obj, name: &str) -> Result<Option<Obj>, Raised> {
    let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
    // A caller in C may pass a dict that other threads know.
    locked(keywords, || {
        // SAFETY: the dict is alive and nothing that runs here changes it; what it lends is alive
        // as long as that. Reading a text may wait for a lock, and let others change the dict.
        unsafe {
            while ffi::PyDict_Next(keywords.as_ptr(), &mut position, &mut key, &mut value) != 0 {
                #[cfg(Py_GIL_DISABLED)]
                let _kept = (Obj::from_borrowed(key), Obj::from_borrowed(value));
                if ffi::PyUnicode_Check(key) != 0 && Obj::from_pointer(&key).as_str()? == name {
                    return Ok(Some(Obj::from_pointer(&value).clone()));
                }
            }
        }
        Ok(None)
    })
}

/// The TypeError of a Python function whose arguments `absent` are missing.
#[cold]
fn missing(py: pyo3::Python<'_>, function: &str, absent: &[&str]) -> Raised {
    let quoted: Vec<String> = absent.iter().map(|name| format!("'{name}'")).collect();
    let (names, plural) = match quoted.as_slice() {
        [first, second] => (format!("{first} and {second}"), "s"),
        [rest @ .., last] if !rest.is_empty() => (format!("{}, and {last}", rest.join(", ")), "s"),
        names => (names.concat(), ""),
    };
    let count = absent.len();
    let text =
        format!("{function}() missing {count} required positional argument{plural}: {names}");
    Raised::type_error(py, &text)
}
