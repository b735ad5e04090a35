// The states of a batch's streams, out of their slab; padding rows have the initial state.
//
// Shapes:    slab [slot][outer][inner_bytes], initial [outer][inner_bytes] -> batch [outer][bucket][inner_bytes].
// Datatypes: any.
// Launch:    block 256; grid.x over 16-byte pieces of a block, grid.y over bucket, grid.z over outer.
// Reference: `Slab::row` in src/device/slab.rs.
#include "common.cuh"

extern "C" __global__ void state_gather(const u8* __restrict__ slab, const u8* __restrict__ initial,
                                        const Seat* __restrict__ seats, u32 live, u8* __restrict__ batch, u32 outer,
                                        u32 bucket, u64 inner_bytes) {
    for (u64 o : along_z(outer)) {
        for (u64 r : along_y(bucket)) {
            i32 slot = r < live ? seats[r].from : -1;
            const u8* from = slot < 0 ? initial + o * inner_bytes : slab + (slot * u64(outer) + o) * inner_bytes;
            copy(batch + (o * bucket + r) * inner_bytes, from, inner_bytes);
        }
    }
}
