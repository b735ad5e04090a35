//! Exchanges with servers that are honest, slow, or neither, without sockets and clocks.

mod exchange;
