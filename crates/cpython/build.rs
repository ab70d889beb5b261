//! Passes the interpreter's version to the crate as `cfg(Py_3_x)`.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo::rustc-check-cfg=cfg(aioxide_tsan)");
}
