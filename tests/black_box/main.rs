//! Black-box tests: the real binary between a scripted origin and a raw client. One binary, so that it is linked once;
//! one module per capability. The tests are written against the behaviour contract, not against the code.

mod admin;
mod cli;
mod config;
mod cors;
mod demo;
mod deploy;
mod edge;
mod faults;
mod floods;
mod forwarding;
mod harness;
mod headers;
mod http2_tls;
mod limits;
mod logs;
mod opening;
mod random;
mod real_origins;
mod routing;
mod scopes;
mod sessions;
mod shutdown;
mod smuggling;
mod tokens;
mod upgrades;
mod upstreams;
