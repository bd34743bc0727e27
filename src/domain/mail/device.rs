//! The device that a mail names: browser and system, as far as the user agent reveals them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Parts of user agents, each with the name of its browser or HTTP client; the first part that occurs decides. A browser whose user
/// agent also contains the part of another browser precedes that browser.
const BROWSERS: [(&str, &str); 12] = [
    // `Edg/`, `EdgA/` or `EdgiOS/`
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Firefox/", "Firefox"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("okhttp/", "okhttp"),
    ("curl/", "curl"),
];

/// Parts of user agents, each with the name of its system; the first part that occurs decides. An iPhone also sends `Mac OS X`, and
/// Android also sends `Linux`.
const SYSTEMS: [(&str, &str); 8] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    // Apps on any Apple system send the version of its kernel, Darwin.
    ("Darwin/", "Apple"),
    ("Linux", "Linux"),
];

/// A recognized device, such as `Firefox, Linux`. It never contains text that a client chose: an attacker could otherwise write to
/// the account's owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Device(String);

impl Device {
    /// The device of a `User-Agent` header. `None` if neither the browser nor the system is recognized.
    pub fn from_user_agent(user_agent: &str) -> Option<Self> {
        let recognize = |table: &[(&str, &'static str)]| {
            table.iter().find(|(part, _)| user_agent.contains(part)).map(|(_, name)| *name)
        };
        let names: Vec<_> = [recognize(&BROWSERS), recognize(&SYSTEMS)].into_iter().flatten().collect();
        if names.is_empty() {
            return None;
        }
        Some(Self(names.join(", ")))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_of_browsers_give_browser_and_system() {
        for (agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox, Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 \
                 Safari/537.36 Edg/126.0.0.0",
                "Edge, Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.0 Mobile/15E148 Safari/604.1",
                "Safari, iPhone",
            ),
            ("curl/8.5.0", "curl"),
        ] {
            assert_eq!(Device::from_user_agent(agent).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn unknown_user_agent_gives_no_device() {
        for agent in ["", "Call +1 555 0100 now", "\r\nBcc: a@b.example"] {
            assert_eq!(Device::from_user_agent(agent), None);
        }
    }

    #[test]
    fn text_that_a_client_chose_is_left_out() {
        let text = Device::from_user_agent("Firefox/1 https://evil.example").unwrap().to_string();
        assert_eq!(text, "Firefox");
    }
}
