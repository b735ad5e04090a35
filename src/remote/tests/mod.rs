//! Bringing repositories from a server that breaks off, lies and changes its mind.
