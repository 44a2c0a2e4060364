//! `inspect`: looks at genotypes, supernets and golden files.
fn main() {
    let mut bad = false;
    let dtype = if std::env::args().any(|a| a == "f32") {
        oche::tensor::DType::F32
    } else {
        oche::tensor::DType::F64
    };
    for path in std::env::args().skip(1).filter(|a| a.ends_with("safetensors")) {
        println!("{path}");
        match oche::run::parity::compare(std::path::Path::new(&path), dtype) {
            Ok(rows) => {
                for r in rows {
                    bad |= !r.passes();
                    println!(
                        "{:<18} {:>5} {:>10.2e} {:>8.0e} {} {}",
                        r.group,
                        r.tensors,
                        r.error,
                        r.tolerance,
                        if r.passes() { "pass" } else { "FAIL" },
                        r.worst
                    )
                }
            }
            Err(e) => {
                eprintln!("{e}");
                bad = true
            }
        }
    }
    if bad {
        std::process::exit(1)
    }
}
