//! The invariants I1 to I8 and I11 to I16 of `docs/architecture.md`, and the session cap, on a real Redis.

mod i11_single_use;
mod i12_no_account_oracle;
mod i13_no_prehijacking;
mod i14_factors;
mod i15_every_end;
mod i16_claims;
mod i1_one_successor;
mod i2_reuse;
mod i3_introspection;
mod i3_revoked;
mod i4_one_clock;
mod i4_time_limits;
mod i5_credentials;
mod i6_client_secrets;
mod i6_no_secrets;
mod i7_no_login_oracle;
mod i8_one_round_trip;
mod session_cap;
