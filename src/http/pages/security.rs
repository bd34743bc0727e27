//! `/account/security`: the factors of the signed-in account.

use poem::{Response, Result, handler};

use super::{
    account::{Owner, notice, require_owner},
    visit::Visit,
};
use crate::{
    domain::factor::FactorKind,
    http::problem::ProblemError,
    pages::views::{PasskeyView, Security, TotpFactorView},
    service::{factors, passkeys::manage},
};

/// The content of the page.
///
/// # Errors
/// [`ProblemError`]
pub(super) async fn view(visit: &Visit, owner: &Owner) -> Result<Security, ProblemError> {
    let account = &owner.account;
    let mut view = Security {
        has_password: account.password_hash.is_some(),
        password_changed_at: account.password_hash.as_ref().map(|_| account.password_changed_at.as_millis()),
        with_passkeys: super::passkeys_are_on(&visit.state),
        ..Security::default()
    };
    if view.with_passkeys {
        let passkeys = manage::list(&visit.state, &owner.caller).await?;
        let shown = passkeys.into_iter().map(|passkey| PasskeyView {
            id: passkey.id.0.to_string(),
            name: passkey.name.as_str().to_owned(),
            created_at: passkey.created_at.as_millis(),
            last_used_at: passkey.last_used_at.map(|at| at.as_millis()),
            is_synced: passkey.backed_up,
        });
        view.passkeys = shown.collect();
    }
    let list = factors::list(&visit.state, account.id).await?;
    view.with_factors = true;
    view.recovery_codes = list.recovery_codes;
    view.has_factor = account.factors.protect() || !view.passkeys.is_empty();
    let totps = list.factors.into_iter().filter(|factor| factor.kind == FactorKind::Totp);
    let shown = totps.map(|factor| TotpFactorView {
        id: factor.id.0.to_string(),
        name: factor.label,
        created_at: factor.created_at.as_millis(),
        last_used_at: factor.last_used_at.map(|at| at.as_millis()),
    });
    view.totps = shown.collect();
    Ok(view)
}

/// `GET /account/security`
#[handler]
pub(super) async fn show(mut visit: Visit) -> Result<Response> {
    let owner = require_owner!(visit, "/security");
    let view = view(&visit, &owner).await?;
    visit.reply().notice(notice(&visit)).page(&view)
}
