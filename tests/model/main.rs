//! The pure parts against naive models of them, on random histories.

mod routing;
