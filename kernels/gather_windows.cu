// Messages -> rows of their first and last bytes, as content classifiers take them; padding rows are `pad`.
//
// Shapes:    head and tail bytes, found by the host -> batch [bucket][head + tail]. A head that is too short is
//            padded at its end, a tail at its beginning; a raw row is copied as it is.
// Datatypes: u8 -> i32, i64, f32.
// Launch:    block 256; grid.x over 16-byte pieces of a row, grid.y over bucket.
// Reference: `ByteWindow::row` in src/tensor/payload.rs.
#include "common.cuh"

template <typename T>
__device__ inline void gather_windows(const u8* __restrict__ packed, const Window* __restrict__ rows, u32 live,
                                      T* __restrict__ batch, u32 bucket, u32 head, u32 tail, i64 pad) {
    u64 width = u64(head) + tail;
    for (u64 r : along_y(bucket)) {
        T* to = batch + r * width;
        Window row = r < live ? rows[r] : Window{};
        if (row.raw) {
            copy(reinterpret_cast<u8*>(to), packed + row.head_offset, width * sizeof(T));
            continue;
        }
        u64 tail_start = width - row.tail_length;
        fill(to, width, [=](u64 i) {
            if (i < row.head_length) return T(packed[row.head_offset + i]);
            if (i >= tail_start) return T(packed[row.tail_offset + (i - tail_start)]);
            return T(pad);
        });
    }
}

extern "C" __global__ void gather_windows_i32(const u8* packed, const Window* rows, u32 live, i32* batch, u32 bucket,
                                              u32 head, u32 tail, i64 pad) {
    gather_windows(packed, rows, live, batch, bucket, head, tail, pad);
}

extern "C" __global__ void gather_windows_i64(const u8* packed, const Window* rows, u32 live, i64* batch, u32 bucket,
                                              u32 head, u32 tail, i64 pad) {
    gather_windows(packed, rows, live, batch, bucket, head, tail, pad);
}

extern "C" __global__ void gather_windows_f32(const u8* packed, const Window* rows, u32 live, float* batch, u32 bucket,
                                              u32 head, u32 tail, i64 pad) {
    gather_windows(packed, rows, live, batch, bucket, head, tail, pad);
}
