//! Captured work, and what a capture does not allow.

mod common;

use common::{Gpu, code};
use cudarc::driver::result::{self, event, graph, stream};
use cudarc::driver::sys::{
    self,
    CUevent_flags::*,
    CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUresult,
    CUresult::*,
    CUstream,
    CUstreamCaptureMode::{self, *},
    CUstreamCaptureStatus::*,
};
use oche_emulated_driver as emulated;

fn begin(gpu: &Gpu, mode: CUstreamCaptureMode) {
    // SAFETY: the stream lives
    unsafe { stream::begin_capture(gpu.stream, mode).unwrap() }
}

fn end(gpu: &Gpu) -> Result<CUgraph, CUresult> {
    // SAFETY: the stream lives
    code(unsafe { stream::end_capture(gpu.stream) })
}

fn instantiate(graph: CUgraph) -> CUgraphExec {
    // SAFETY: the graph lives
    unsafe { graph::instantiate(graph, CUgraphInstantiate_flags(0)).unwrap() }
}

#[test]
fn graph_runs_at_each_launch_with_the_arguments_it_was_captured_with() {
    let gpu = Gpu::new();
    let (x, y) = (gpu.upload(&[1f32, 2.0, 3.0, 4.0]), gpu.upload(&[0f32; 4]));
    // SAFETY: everything lives until the graph is gone
    unsafe {
        begin(&gpu, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
        assert_eq!(stream::is_capturing(gpu.stream).unwrap(), CU_STREAM_CAPTURE_STATUS_ACTIVE);
        result::memcpy_dtod_async(y, x, 16, gpu.stream).unwrap();
        {
            let (mut factor, mut n) = (10f32, 3i32);
            gpu.launch("test_scale", 1, 32, arguments![y, factor, n]).unwrap();
            (factor, n) = (0.0, 0); // the capture has copies
            std::hint::black_box((factor, n));
        }
        let captured = end(&gpu).unwrap();
        assert_eq!(gpu.download::<f32>(y, 4), [0.0; 4]);
        let mut nodes = 0;
        assert_eq!(sys::cuGraphGetNodes(captured, std::ptr::null_mut(), &mut nodes), CUDA_SUCCESS);
        assert_eq!((nodes, emulated::get("captured_nodes")), (2, 2));

        let ready = instantiate(captured);
        graph::destroy(captured).unwrap();
        graph::upload(ready, gpu.stream).unwrap();
        graph::launch(ready, gpu.stream).unwrap();
        assert_eq!(gpu.download::<f32>(y, 4), [10.0, 20.0, 30.0, 4.0]);
        result::memcpy_htod_sync(x, &[5f32, 6.0, 7.0, 8.0]).unwrap();
        graph::launch(ready, gpu.stream).unwrap();
        assert_eq!(gpu.download::<f32>(y, 4), [50.0, 60.0, 70.0, 8.0]);
        graph::exec_destroy(ready).unwrap();
        assert_eq!(code(graph::launch(ready, gpu.stream)), Err(CUDA_ERROR_INVALID_HANDLE));
    }
    let counted = ["launches", "graph_launches", "kernels"].map(emulated::get);
    assert_eq!(counted, [0, 2, 2]);
}

#[test]
fn memory_freed_after_a_capture_is_found_by_its_replay() {
    let gpu = Gpu::new();
    let (y, factor, n) = (gpu.upload(&[1f32; 4]), 2f32, 4i32);
    begin(&gpu, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    gpu.launch("test_scale", 1, 32, arguments![y, factor, n]).unwrap();
    let ready = instantiate(end(&gpu).unwrap());
    // SAFETY: the driver finds the mistake
    unsafe {
        graph::launch(ready, gpu.stream).unwrap();
        result::free_sync(y).unwrap();
        assert_eq!(code(graph::launch(ready, gpu.stream)), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
    }
}

#[test]
fn what_a_capture_cannot_hold_spoils_it() {
    type Call = fn(&Gpu, u64) -> Result<(), CUresult>;
    let calls: [(&str, Call); 6] = [
        ("synchronize", |gpu, _| gpu.synchronize()),
        ("synchronize all", |_, _| code(result::ctx::synchronize())),
        // SAFETY: the driver refuses
        ("allocate", |gpu, _| code(unsafe { result::malloc_async(gpu.stream, 4) }).map(drop)),
        ("free", |gpu, at| code(unsafe { result::free_async(at, gpu.stream) })),
        ("allocate at once", |_, _| code(unsafe { result::malloc_sync(4) }).map(drop)),
        ("copy at once", |_, at| code(unsafe { result::memcpy_htod_sync(at, &[0f32]) })),
    ];
    for (name, call) in calls {
        let gpu = Gpu::new();
        let (y, factor, n) = (gpu.upload(&[1f32; 4]), 2f32, 4i32);
        begin(&gpu, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
        assert_eq!(call(&gpu, y), Err(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED), "{name}");
        let later = gpu.launch("test_scale", 1, 32, arguments![y, factor, n]);
        assert_eq!(later, Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED), "{name}");
        // SAFETY: the stream lives
        let status = unsafe { stream::is_capturing(gpu.stream).unwrap() };
        assert_eq!(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
        assert_eq!(end(&gpu), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED), "{name}");
        // after which the stream works as before
        gpu.launch("test_scale", 1, 32, arguments![y, factor, n]).unwrap();
        assert_eq!(gpu.download::<f32>(y, 4), [2.0; 4]);
    }
}

#[test]
fn relaxed_captures_allow_memory() {
    let gpu = Gpu::new();
    begin(&gpu, CU_STREAM_CAPTURE_MODE_RELAXED);
    let y = gpu.upload(&[1f32; 4]);
    assert_eq!(gpu.download::<f32>(y, 4), [1.0; 4]);
    end(&gpu).unwrap();
}

#[test]
fn mode_says_whose_calls_are_refused() {
    for (mode, refused) in
        [(CU_STREAM_CAPTURE_MODE_GLOBAL, true), (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, false)]
    {
        let gpu = Gpu::new();
        begin(&gpu, mode);
        let other = std::thread::spawn(|| {
            common::bind_device();
            // SAFETY: the memory is not used
            code(unsafe { result::malloc_sync(4) })
        });
        assert_eq!(other.join().unwrap().is_err(), refused);
        assert_eq!(end(&gpu).is_err(), refused);
    }
}

#[test]
fn captures_have_a_beginning_and_an_end() {
    let gpu = Gpu::new();
    let mode = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    assert_eq!(end(&gpu), Err(CUDA_ERROR_ILLEGAL_STATE));
    // SAFETY: the stream lives
    unsafe {
        let legacy: CUstream = std::ptr::null_mut();
        assert_eq!(code(stream::begin_capture(legacy, mode)), Err(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
        begin(&gpu, mode);
        assert_eq!(code(stream::begin_capture(gpu.stream, mode)), Err(CUDA_ERROR_ILLEGAL_STATE));
    }
    emulated::reset(); // ends it
    begin(&gpu, mode);
    end(&gpu).unwrap();
}

#[test]
fn streams_join_a_capture_through_events() {
    let gpu = Gpu::new();
    let (y, factor, n) = (gpu.upload(&[1f32; 4]), 2f32, 4i32);
    // SAFETY: all of it lives to the end
    unsafe {
        let side = Gpu::stream();
        let (fork, join) =
            (event::create(CU_EVENT_DISABLE_TIMING).unwrap(), event::create(CU_EVENT_DEFAULT).unwrap());
        let on = |which| {
            let function = gpu.function("test_scale");
            result::launch_kernel(function, (1, 1, 1), (32, 1, 1), 0, which, arguments![y, factor, n])
                .unwrap();
        };
        let wait =
            |which, event| stream::wait_event(which, event, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT);
        let capture = |joined: bool| {
            begin(&gpu, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
            event::record(fork, gpu.stream).unwrap();
            wait(side, fork).unwrap();
            on(side);
            event::record(join, side).unwrap();
            if joined {
                wait(gpu.stream, join).unwrap();
            }
            on(gpu.stream);
            end(&gpu)
        };
        assert_eq!(capture(false), Err(CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
        let ready = instantiate(capture(true).unwrap());
        graph::launch(ready, gpu.stream).unwrap();
        assert_eq!(gpu.download::<f32>(y, 4), [4.0; 4]);

        assert_eq!(code(event::query(join)), Err(CUDA_ERROR_CAPTURED_EVENT));
        event::record(join, side).unwrap(); // outside of it
        event::synchronize(join).unwrap();
        begin(&gpu, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
        assert_eq!(code(wait(gpu.stream, join)), Err(CUDA_ERROR_STREAM_CAPTURE_ISOLATION));
        assert!(end(&gpu).is_err());
        stream::destroy(side).unwrap();
    }
}

#[test]
fn events_measure_time() {
    let gpu = Gpu::new();
    // SAFETY: events live to the end
    unsafe {
        let [first, last] = [(); 2].map(|()| event::create(CU_EVENT_DEFAULT).unwrap());
        assert_eq!(code(event::elapsed(first, last)), Err(CUDA_ERROR_INVALID_HANDLE));
        event::record(first, gpu.stream).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        event::record(last, gpu.stream).unwrap();
        event::query(last).unwrap();
        assert!(event::elapsed(first, last).unwrap() >= 2.0);
        event::destroy(first).unwrap();
        assert_eq!(code(event::destroy(first)), Err(CUDA_ERROR_INVALID_HANDLE));
    }
}
