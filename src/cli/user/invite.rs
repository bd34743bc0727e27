//! `latchkey user invite`, `latchkey user reset`: start an invitation or a password reset, which the account's owner completes.
//! The operator sees no password.

use anyhow::{Context, anyhow, bail};

use super::{InviteArgs, ResetArgs, escaped_identifier};
use crate::{
    domain::account::{Account, Email, Roles, Username},
    service::{
        initiator::Initiator,
        invite_account::{self, Delivery, Invite, InviteError, InviteOrReset},
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// Creates an account without a password. Mails or prints the link and the code with which its owner sets one.
pub(super) async fn invite(state: &AppState, args: &InviteArgs) -> anyhow::Result<()> {
    let invalid = |value: &str, why| anyhow!("{value:?} {why}");
    let email = Email::parse(&args.email).map_err(|why| invalid(&args.email, why))?;
    let username = match args.username.as_deref() {
        Some(name) => Some(Username::parse(name).map_err(|why| invalid(name, why))?),
        None => None,
    };
    let roles = Roles::parse(&args.roles).map_err(|why| anyhow!("--role {why}"))?;
    let input = Invite { email, username, roles };
    let delivery = delivery(args.print);
    let origin = RequestOrigin::default(); // a command has no client
    let started = invite_account::invite(state, input, delivery, &Initiator::Operator, &origin).await;
    report(&started.with_context(|| format!("{:?}", args.email))?, "Invited");
    Ok(())
}

/// Starts a password reset. Mails or prints the link and the code with which the account's owner sets a new password.
pub(super) async fn reset(state: &AppState, account: &Account, args: &ResetArgs) -> anyhow::Result<()> {
    let delivery = delivery(args.print);
    let origin = RequestOrigin::default(); // a command has no client
    let started = invite_account::start_reset(state, account.clone(), delivery, &Initiator::Operator, &origin).await;
    if let Err(InviteError::NoAddress) = &started {
        bail!(
            "the account has no e-mail address, so the link can't be mailed: use --print, or set an address with \
             `latchkey user set-email`"
        );
    }
    report(&started?, "Started a password reset for");
    Ok(())
}

/// The delivery that `--print` selects.
const fn delivery(print: bool) -> Delivery {
    if print { Delivery::ToCaller } else { Delivery::Mail }
}

/// Prints what was started, with the link and the code if they were not mailed.
fn report(started: &InviteOrReset, action: &str) {
    let name = escaped_identifier(&started.account);
    match &started.returned {
        None => println!("{action} {name}. A running node sends the mail."),
        Some(returned) => {
            println!("{action} {name}. The link and the code work once, until {}:", returned.expires_at);
            println!("link  {}", returned.link.expose());
            println!("code  {}", returned.code.expose());
        }
    }
}
