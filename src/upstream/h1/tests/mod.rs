//! Tests of HTTP/1.1 connections: of what is read, and of whole calls against an origin that follows a script.

mod calls;
mod faults;
mod origin;
mod reading;
mod uploads;
