// The states that a run gave, back into their streams' slab. A row without a slot keeps none.
//
// Shapes:    batch [outer][bucket][inner_bytes] -> slab [slot][outer][inner_bytes]; no two rows go to one slot.
// Datatypes: any.
// Launch:    block 256; grid.x over 16-byte pieces of a block, grid.y over live, grid.z over outer.
// Reference: `Slab::store` in src/device/slab.rs.
#include "common.cuh"

extern "C" __global__ void state_scatter(const u8* __restrict__ batch, const Seat* __restrict__ seats, u32 live,
                                         u8* __restrict__ slab, u32 outer, u32 bucket, u64 inner_bytes) {
    for (u64 o : along_z(outer)) {
        for (u64 r : along_y(live)) {
            i32 slot = seats[r].to;
            if (slot < 0) continue;
            copy(slab + (slot * u64(outer) + o) * inner_bytes, batch + (o * bucket + r) * inner_bytes, inner_bytes);
        }
    }
}
