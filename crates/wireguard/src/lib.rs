//! WireGuard interfaces. Now: someone else's (netclient's, tailscale's, wg-quick's), found and followed
//! by rtnetlink events.

#![forbid(unsafe_code)]
