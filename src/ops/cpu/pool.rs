use crate::device::real::Real;
use crate::ops::window::Window;
fn taps(w: &Window, d: [usize; 4], oy: usize, ox: usize) -> impl Iterator<Item = (usize, usize)> {
    let w = *w;
    (0..w.kernel[0]).flat_map(move |a| {
        (0..w.kernel[1]).filter_map(move |b| {
            let y = (oy * w.stride[0] + a * w.dilation[0]).checked_sub(w.padding[0])?;
            let x = (ox * w.stride[1] + b * w.dilation[1]).checked_sub(w.padding[1])?;
            (y < d[1] && x < d[2]).then_some((a * w.kernel[1] + b, (y * d[2] + x) * d[3]))
        })
    })
}
fn each(w: &Window, d: [usize; 4], mut f: impl FnMut(usize, usize, Vec<(usize, usize)>)) {
    let [oh, ow] = super::out_size(w, d);
    for n in 0..d[0] {
        for y in 0..oh {
            for x in 0..ow {
                f(n * d[1] * d[2] * d[3], ((n * oh + y) * ow + x) * d[3], taps(w, d, y, x).collect())
            }
        }
    }
}
pub fn max_forward<R: Real>(w: &Window, d: [usize; 4], x: &[R], y: &mut [R], i: &mut [u8]) {
    each(w, d, |xi, yi, t| {
        for c in 0..d[3] {
            let mut b = t[0];
            for &q in &t {
                if x[xi + q.1 + c] > x[xi + b.1 + c] {
                    b = q
                }
            }
            y[yi + c] = x[xi + b.1 + c];
            i[yi + c] = b.0 as u8;
        }
    })
}
pub fn max_gather<R: Real>(w: &Window, d: [usize; 4], x: &[R], i: &[u8], y: &mut [R], add: bool) {
    each(w, d, |xi, yi, t| {
        for c in 0..d[3] {
            let b = t.iter().find(|q| q.0 == i[yi + c] as usize).unwrap();
            let v = x[xi + b.1 + c];
            if add { y[yi + c] += v } else { y[yi + c] = v }
        }
    })
}
pub fn max_scatter<R: Real>(w: &Window, d: [usize; 4], g: &[R], i: &[u8], x: &mut [R], add: bool) {
    if !add {
        x.fill(R::ZERO)
    }
    each(w, d, |xi, yi, t| {
        for c in 0..d[3] {
            let b = t.iter().find(|q| q.0 == i[yi + c] as usize).unwrap();
            x[xi + b.1 + c] += g[yi + c];
        }
    })
}
pub fn avg_forward<R: Real>(w: &Window, d: [usize; 4], x: &[R], y: &mut [R], add: bool) {
    each(w, d, |xi, yi, t| {
        for c in 0..d[3] {
            let mut s = R::ZERO;
            for q in &t {
                s += x[xi + q.1 + c]
            }
            let v = s / R::of(t.len() as f64);
            if add { y[yi + c] += v } else { y[yi + c] = v }
        }
    })
}
pub fn avg_input_grad<R: Real>(w: &Window, d: [usize; 4], g: &[R], x: &mut [R], add: bool) {
    if !add {
        x.fill(R::ZERO)
    }
    each(w, d, |xi, yi, t| {
        for c in 0..d[3] {
            for q in &t {
                x[xi + q.1 + c] += g[yi + c] / R::of(t.len() as f64)
            }
        }
    })
}
