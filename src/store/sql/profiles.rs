//! The `profiles` table: what owners set, and `app_metadata`, which only operators and service clients set.

use sqlx::{Row, any::AnyRow};

use super::{AccountChange, Sql, SqlError, query};
use crate::domain::{
    ids::AccountId,
    profile::{LanguageTag, Metadata, Profile, TimeZoneName},
};

/// Selects the profile of an account by its id.
const SELECT_PROFILE: &str = "SELECT display_name, locale, time_zone, app_metadata, user_metadata FROM profiles \
                              WHERE account_id = $1";

impl Sql {
    /// Reads the profile of an account. An account without a stored profile has an empty one.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn profile(&self, id: AccountId) -> Result<Profile, SqlError> {
        let row = self.read_one(SELECT_PROFILE, id.to_string()).await?;
        read_profile(id, row.as_ref())
    }
}

impl AccountChange {
    /// Reads the profile of the account, as [`Sql::profile`] does, but within the change.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn profile(&mut self) -> Result<Profile, SqlError> {
        let id = self.account.id;
        let row = query(SELECT_PROFILE).bind(id.to_string()).fetch_optional(&mut *self.tx).await?;
        read_profile(id, row.as_ref())
    }

    /// Replaces the profile of the account.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn set_profile(&mut self, profile: &Profile) -> Result<(), SqlError> {
        let sql = "INSERT INTO profiles (account_id, display_name, locale, time_zone, app_metadata, user_metadata) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id) DO UPDATE SET \
                   display_name = excluded.display_name, locale = excluded.locale, time_zone = excluded.time_zone, \
                   app_metadata = excluded.app_metadata, user_metadata = excluded.user_metadata";
        query(sql)
            .bind(self.account.id.to_string())
            .bind(profile.display_name.clone())
            .bind(profile.locale.as_ref().map(|tag| tag.as_str().to_owned()))
            .bind(profile.time_zone.as_ref().map(|name| name.as_str().to_owned()))
            .bind(profile.app_metadata.to_json())
            .bind(profile.user_metadata.to_json())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

/// Reads the profile in a row of [`SELECT_PROFILE`]. Returns an empty profile if there is no row.
fn read_profile(id: AccountId, row: Option<&AnyRow>) -> Result<Profile, SqlError> {
    let Some(row) = row else { return Ok(Profile::default()) };
    let metadata = |column: &'static str| {
        let json: String = row.try_get(column)?;
        Metadata::from_json(&json).ok_or_else(|| SqlError::Corrupt(format!("{column} of the account {id}")))
    };
    let text = |column: &'static str| row.try_get::<Option<String>, _>(column);
    Ok(Profile {
        display_name: text("display_name")?,
        // A value that another release stored and this one refuses counts as none.
        locale: text("locale")?.and_then(|tag| LanguageTag::parse(&tag).ok()),
        time_zone: text("time_zone")?.and_then(|name| TimeZoneName::parse(&name).ok()),
        app_metadata: metadata("app_metadata")?,
        user_metadata: metadata("user_metadata")?,
    })
}
