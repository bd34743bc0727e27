//! Creating, listing, refreshing and ending sessions.

use std::time::Duration;

use latchkey::{
    domain::{
        account::{ClaimsStamp, ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        event::EndReason,
        session::{
            AcceptedTransport, ClientGrant, Generation, Grant, OriginTag, RepeatRule, Rotation, SessionOrigin,
            Transport,
        },
    },
    store::redis::{
        AccountSessions, CreateOutcome, LastUseOrigin, NewSession, Presentation, ReplaceOutcome, Replacement,
        SessionBasis,
    },
};

use super::{
    on_every_server,
    server::{ABSOLUTE, GRACE, IDLE, NOW, Redis, Rotate, account, create, new_session, session},
};

on_every_server!(
    session_is_created_rotated_and_revoked,
    session_keeps_its_authentication_client_and_parent,
    revoke_all_with_and_without_exception_ends_sessions,
    revoke_all_sessions_of_current_second_get_own_events,
    create_above_cap_ends_oldest,
    details_round_trip,
    i5_create_with_older_epoch_is_stale,
    i16_set_claims_replaces_roles_and_version_of_every_session,
    i4_sessions_expire_by_idle_timeout_and_lifetime,
    i4_keys_expire_by_ttl,
);

/// Rotations keep the session's authentication, client grant and parent, and the replacement after a password change keeps the first two.
/// Each field of the hash has at most 64 bytes, so that Redis keeps the hash in its compact encoding.
async fn session_keeps_its_authentication_client_and_parent(server: Redis) {
    let store = server.store();
    let (ada, id, parent) = (account(), session(1), session(9));
    let authentication = Authentication {
        at: NOW - Duration::from_secs(5),
        methods: AuthenticationMethods::PASSWORD.with(AuthenticationMethod::HardwareKey),
        acr: Acr::Aal3,
    };
    let client = ClientGrant {
        client_id: "shop".to_owned(),
        scope: "openid profile orders:read offline_access".to_owned(),
        audiences: vec!["https://orders.example".to_owned(), "https://shop.example".to_owned()],
    };
    let basis = |client: &ClientGrant| SessionBasis {
        authentication: Some(authentication),
        client: Some(client.clone()),
        parent: Some(parent),
    };
    let origin =
        SessionOrigin { ip: Some("2001:db8::7".parse().unwrap()), device: Some("laptop".to_owned()), user_agent: None };
    let browsers_session = NewSession { transport: Transport::Browser, ..new_session(ada, parent) };
    store.sessions.create(browsers_session, NOW).await.unwrap();
    let new = NewSession { basis: basis(&client), origin: origin.clone(), ..new_session(ada, id) };
    let CreateOutcome::Created { grant, .. } = store.sessions.create(new, NOW).await.unwrap() else { panic!() };
    let assert_basis_is_kept = |grant: &Grant| {
        assert_eq!(grant.authentication, authentication);
        assert_eq!(grant.client.as_deref(), Some(&client));
    };
    assert_basis_is_kept(&grant);
    let mut now = NOW;
    // The session is refreshed three times, the second time from another origin.
    for (generation, tag) in [(0, 0), (1, 1), (2, 1)] {
        now = now + Duration::from_secs(60);
        let presentation = Presentation {
            account: ada,
            session: id,
            generation: Generation(generation),
            accepted: AcceptedTransport::Any,
            origin: LastUseOrigin { tag: OriginTag([tag; 8]), ip: Some("198.51.100.1".parse().unwrap()) },
        };
        let rule = RepeatRule { grace: GRACE, retry_window: Duration::ZERO, counted_repeats_limit: 4 };
        // For other clients (`None` is the first-party client) the session does not exist. Their requests change nothing.
        for other in [None, Some("shop2"), Some("sho"), Some("")] {
            let rotation = store.sessions.present_for(&presentation, other, &rule, IDLE, now).await.unwrap();
            assert_eq!(rotation, Rotation::Gone, "{other:?}");
        }
        let client = Some(client.client_id.as_str());
        let rotation = store.sessions.present_for(&presentation, client, &rule, IDLE, now).await.unwrap();
        let Rotation::Rotated(grant) = rotation else { panic!("{rotation:?}") };
        assert_basis_is_kept(&grant);
    }
    let sessions = store.sessions.list(ada, now).await.unwrap();
    let by_id = |id| sessions.iter().find(|session| session.id == id).unwrap().clone();
    assert_eq!(by_id(parent).idle_ends_at, now + IDLE, "an app in use keeps its browser's session");
    let listed = by_id(id);
    assert_eq!(listed.authentication, authentication);
    assert_eq!(listed.client.as_deref(), Some(&client));
    assert_eq!(listed.parent, Some(parent));
    assert_eq!(listed.origin, origin);
    assert_eq!(listed.last_used_ip, Some("198.51.100.1".parse().unwrap()));
    let (key, fields) = server.only_hash().await;
    let encoding = server.command(&["OBJECT", "ENCODING", &key]);
    // Redis before 7.0 calls the compact encoding "ziplist".
    assert!(["listpack", "ziplist"].contains(&encoding.as_str()), "{encoding}: {fields:?}");

    let replacement = Replacement {
        id: session(2),
        account: ada,
        replaces: id,
        accepted: AcceptedTransport::Any,
        roles: Roles::default(),
        additional_claims: AdditionalClaims::default(),
        claims_version: ClaimsVersion(0),
        epoch: Epoch(1),
        authentication: None,
        idle_timeout: IDLE,
        absolute_timeout: ABSOLUTE,
    };
    let replaced = store.sessions.replace_all(replacement, EndReason::PasswordChanged, now).await.unwrap();
    let ReplaceOutcome::Replaced { grant, .. } = replaced else { panic!("{replaced:?}") };
    assert_basis_is_kept(&grant);

    // 300 bytes of scopes are more than a client grant may have
    let too_long = ClientGrant { scope: "scope ".repeat(50), ..client.clone() };
    let new = NewSession { basis: basis(&too_long), ..new_session(ada, session(3)) };
    let error = store.sessions.create(new, now).await.unwrap_err();
    assert!(error.to_string().contains("request fewer"), "{error}");
    store.close().await;
}

async fn session_is_created_rotated_and_revoked(server: Redis) {
    let store = server.store();
    let (ada, id) = (account(), session(1));
    let roles = Roles::parse(["admin", "clerk"]).unwrap();
    let new = NewSession { roles: roles.clone(), transport: Transport::Cookie, ..new_session(ada, id) };
    let CreateOutcome::Created { grant, .. } = store.sessions.create(new, NOW).await.unwrap() else { panic!() };
    assert_eq!((grant.account, grant.session, grant.generation), (ada, id, Generation(0)));
    assert_eq!((grant.created_at, grant.idle_ends_at, grant.ends_at), (NOW, NOW + IDLE, NOW + ABSOLUTE));
    assert!(store.sessions.is_live(ada, id, NOW).await.unwrap());
    assert!(!store.sessions.is_live(ada, session(2), NOW).await.unwrap());
    let another_account = account();
    assert!(!store.sessions.is_live(another_account, id, NOW).await.unwrap());

    let later = NOW + Duration::from_secs(60);
    let rotation = store.sessions.rotate(ada, id, Generation(0), GRACE, IDLE, later).await.unwrap();
    let Rotation::Rotated(grant) = rotation else { panic!("{rotation:?}") };
    assert_eq!((grant.generation, grant.created_at), (Generation(1), NOW));
    assert_eq!((grant.idle_ends_at, grant.ends_at), (later + IDLE, NOW + ABSOLUTE));
    assert_eq!((grant.roles.clone(), grant.transport), (roles, Transport::Cookie));
    let within_grace = later + GRACE - Duration::from_secs(1);
    let repeated = store.sessions.rotate(ada, id, Generation(0), GRACE, IDLE, within_grace).await.unwrap();
    assert_eq!(repeated, Rotation::Repeated(grant));

    let listed = store.sessions.list(ada, later).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].generation), (id, Generation(1)));
    assert_eq!((listed[0].created_at, listed[0].last_used_at), (NOW, later));

    assert!(store.sessions.revoke(ada, id, EndReason::Logout, later).await.unwrap());
    assert!(!store.sessions.revoke(ada, id, EndReason::Logout, later).await.unwrap());
    assert_eq!(store.sessions.rotate(ada, id, Generation(1), GRACE, IDLE, later).await.unwrap(), Rotation::Gone);
    assert!(!store.sessions.is_live(ada, id, later).await.unwrap());
    assert_eq!(store.sessions.list(ada, later).await.unwrap(), []);
    let at = later.as_millis().to_string();
    assert_eq!(server.events(), [[ada.to_string(), id.to_string(), "logout".to_owned(), at]], "one event for one end");
    assert_eq!(server.command(&["--scan", "--pattern", "lk:s*"]), "", "no key is left");

    // A superseded token after the grace window is reuse, which ends the session.
    create(&store, ada, session(3), NOW).await;
    store.sessions.rotate(ada, session(3), Generation(0), GRACE, IDLE, NOW).await.unwrap();
    let reused = store.sessions.rotate(ada, session(3), Generation(0), GRACE, IDLE, NOW + GRACE).await.unwrap();
    assert_eq!(reused, Rotation::Reused);
    assert!(!store.sessions.is_live(ada, session(3), NOW).await.unwrap());
    let events = server.events();
    let [_, ended, reason, _] = &events[1];
    assert_eq!(*ended, session(3).to_string());
    assert_eq!(reason, "reuse");
    store.close().await;
}

async fn revoke_all_with_and_without_exception_ends_sessions(server: Redis) {
    let store = server.store();
    let ada = account();
    for number in 1..=5 {
        create(&store, ada, session(number), NOW).await;
    }
    let later = NOW + Duration::from_secs(1);
    let all_but_third = AccountSessions::all(ada).except(session(3));
    let ended = store.sessions.revoke_all(all_but_third, EndReason::Revoked, later).await.unwrap();
    assert_eq!(ended, 4);
    let live: Vec<_> = store.sessions.list(ada, NOW).await.unwrap().iter().map(|session| session.id).collect();
    assert_eq!(live, [session(3)]);
    let ended = store.sessions.revoke_all(AccountSessions::all(ada), EndReason::Disabled, later).await.unwrap();
    assert_eq!(ended, 1);
    assert_eq!(store.sessions.list(ada, NOW).await.unwrap(), []);
    let events: Vec<_> = server.events().into_iter().map(|[_, session, reason, _]| (session, reason)).collect();
    assert_eq!(
        events,
        [(format!("all but {}", session(3)), "revoked".to_owned()), ("all".to_owned(), "disabled".to_owned())]
    );
    store.close().await;
}

/// The event "all" ends the sessions whose tokens have a `session_start` before the second of the revocation. This claim has whole seconds:
/// it does not distinguish a session that began in that second from a session that begins after the revocation. So each session of that
/// second gets an event of its own.
async fn revoke_all_sessions_of_current_second_get_own_events(server: Redis) {
    let store = server.store();
    let ada = account();
    let time = |millis| NOW + Duration::from_millis(millis);
    // Session 1 began in the second before that of the revocation, which spares session 4.
    for (number, created_millis) in [(1, 999), (2, 1000), (3, 1001), (4, 1200)] {
        create(&store, ada, session(number), time(created_millis)).await;
    }
    let all_but_fourth = AccountSessions::all(ada).except(session(4));
    let ended = store.sessions.revoke_all(all_but_fourth, EndReason::Revoked, time(1500)).await.unwrap();
    assert_eq!(ended, 3);
    let mut events: Vec<_> = server.events().into_iter().map(|[_, session, ..]| session).collect();
    assert_eq!(events.pop(), Some(format!("all but {}", session(4))));
    // the events of single sessions have no fixed order
    events.sort();
    let mut expected = [2, 3].map(|number| session(number).to_string());
    expected.sort();
    assert_eq!(events, expected);
    store.close().await;
}

async fn create_above_cap_ends_oldest(server: Redis) {
    let store = server.store();
    let ada = account();
    for number in 1..=7_u64 {
        let mut new = new_session(ada, session(number));
        new.max_per_account = 5;
        store.sessions.create(new, NOW + Duration::from_secs(number)).await.unwrap();
    }
    let live: Vec<_> = store.sessions.list(ada, NOW).await.unwrap().into_iter().map(|session| session.id).collect();
    assert_eq!(live, [3, 4, 5, 6, 7].map(session));
    let ended: Vec<_> = server.events().into_iter().map(|[_, session, reason, _]| (session, reason)).collect();
    assert_eq!(ended, [1, 2].map(|number| (session(number).to_string(), "limit".to_owned())));
    store.close().await;
}

async fn details_round_trip(server: Redis) {
    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
    let store = server.store();
    let ada = account();
    let origin = |ip: Option<&str>, agent: Option<&str>, device: Option<&str>| SessionOrigin {
        ip: ip.map(|ip| ip.parse().unwrap()),
        user_agent: agent.map(str::to_owned),
        device: device.map(str::to_owned),
    };
    let long = "x".repeat(2000);
    // The given origin, and the stored one if it differs.
    let cases = [
        (origin(None, None, None), None),
        (origin(Some("203.0.113.7"), Some(CHROME), Some("Ada's laptop")), None),
        (origin(Some("2001:db8::1"), Some("curl/8.5.0"), None), None),
        (origin(Some("0.0.0.0"), None, Some("\u{1F4F1} Čeština")), None),
        // Details have at most 192 bytes, of which 186 are left for the user agent beside an IPv4 address and without a device.
        (origin(Some("203.0.113.7"), Some(&long), None), Some(origin(Some("203.0.113.7"), Some(&long[..186]), None))),
        // A user agent is printable ASCII: all other characters are replaced.
        (origin(None, Some("a\u{0}\u{e9}\u{7f}b"), None), Some(origin(None, Some("a???b"), None))),
        // The name of a device has at most 160 bytes.
        (origin(None, None, Some(&long)), Some(origin(None, None, Some(&long[..160])))),
    ];
    for (number, (given, _)) in cases.iter().enumerate() {
        let new = NewSession { origin: given.clone(), ..new_session(ada, session(number as u64 + 1)) };
        // a millisecond apart, because sessions are listed from the oldest to the newest
        store.sessions.create(new, NOW + Duration::from_millis(number as u64)).await.unwrap();
    }
    let listed = store.sessions.list(ada, NOW).await.unwrap();
    assert_eq!(listed.len(), cases.len());
    for (session, (given, cut)) in listed.into_iter().zip(cases) {
        assert_eq!(session.origin, cut.unwrap_or(given));
    }
    store.close().await;
}

async fn i16_set_claims_replaces_roles_and_version_of_every_session(server: Redis) {
    let store = server.store();
    let (ada, now) = (account(), NOW + Duration::from_secs(20));
    let roles = |names: &[&str]| Roles::parse(names).unwrap();
    let set = async |names: &[&str], version| {
        store
            .sessions
            .set_claims(ada, &roles(names), &AdditionalClaims::default(), ClaimsVersion(version), Epoch(1), now)
            .await
            .unwrap()
    };
    let claims = async || store.sessions.liveness(ada, session(1), now).await.unwrap().unwrap().claims;
    create(&store, ada, session(1), NOW).await;
    create(&store, ada, session(2), NOW).await;
    assert_eq!(claims().await, ClaimsStamp::default());
    assert_eq!(set(&["admin"], 1).await, ClaimsVersion(1));
    assert_eq!(claims().await, ClaimsStamp { version: ClaimsVersion(1), changed_at: Some(now) });
    for number in [1, 2] {
        // The token of generation 0 is rotated, and then repeated in the grace window.
        let rotated = store.sessions.rotate(ada, session(number), Generation(0), GRACE, IDLE, now).await.unwrap();
        let repeated = store.sessions.rotate(ada, session(number), Generation(0), GRACE, IDLE, now).await.unwrap();
        let (Rotation::Rotated(grant), Rotation::Repeated(again)) = (rotated, repeated) else { panic!() };
        assert_eq!(grant.roles, roles(&["admin"]));
        assert_eq!(grant.claims_version, ClaimsVersion(1));
        assert_eq!(again, grant);
    }
    assert_eq!(set(&[], 1).await, ClaimsVersion(2), "a version is never used twice");
    // A sign-in with an older version than that of Redis is stale: it was checked before the change, or the database has lost the change.
    let new = |number, version| NewSession {
        claims_version: ClaimsVersion(version),
        epoch: Epoch(1),
        ..new_session(ada, session(number))
    };
    assert_eq!(store.sessions.create(new(3, 1), now).await.unwrap(), CreateOutcome::Stale);
    let CreateOutcome::Created { grant, .. } = store.sessions.create(new(3, 2), now).await.unwrap() else { panic!() };
    assert_eq!(grant.claims_version, ClaimsVersion(2));
    assert_eq!(claims().await, ClaimsStamp { version: ClaimsVersion(2), changed_at: Some(now) });
    let rotation = store.sessions.rotate(ada, session(3), Generation(0), GRACE, IDLE, now).await.unwrap();
    let Rotation::Rotated(grant) = rotation else { panic!("{rotation:?}") };
    assert_eq!((grant.roles, grant.claims_version), (Roles::default(), ClaimsVersion(2)));
    let at = now.as_millis().to_string();
    // In an event, a UUID with the version's number stands for a version of claims (set_claims.lua).
    let event = |version: u32| {
        [ada.to_string(), format!("00000000-0000-0000-0000-{version:012x}"), "revoked".to_owned(), at.clone()]
    };
    assert_eq!(server.events(), [event(1), event(2)]);
    // The fence keeps the key after the last session has ended, and the key has the version of the claims.
    store.sessions.revoke_all(AccountSessions::all(ada).with_epoch(Epoch(2)), EndReason::Disabled, now).await.unwrap();
    assert_eq!(store.sessions.claims_version(ada).await.unwrap(), Some(ClaimsVersion(2)));
    store.close().await;
}

async fn i5_create_with_older_epoch_is_stale(server: Redis) {
    let store = server.store();
    let ada = account();
    create(&store, ada, session(1), NOW).await;
    let all = AccountSessions::all(ada).with_epoch(Epoch(1));
    store.sessions.revoke_all(all, EndReason::PasswordChanged, NOW).await.unwrap();
    // `new_session` has the epoch 0
    assert_eq!(store.sessions.create(new_session(ada, session(2)), NOW).await.unwrap(), CreateOutcome::Stale);
    let with_current_epoch = NewSession { epoch: Epoch(1), ..new_session(ada, session(2)) };
    assert!(matches!(store.sessions.create(with_current_epoch, NOW).await.unwrap(), CreateOutcome::Created { .. }));
    assert_eq!(store.sessions.list(ada, NOW).await.unwrap().len(), 1);
    store.close().await;
}

async fn i4_sessions_expire_by_idle_timeout_and_lifetime(server: Redis) {
    let store = server.store();
    let (ada, id) = (account(), session(1));
    create(&store, ada, id, NOW).await;
    let last = NOW + IDLE - Duration::from_millis(1);
    assert!(store.sessions.is_live(ada, id, last).await.unwrap());
    assert!(!store.sessions.is_live(ada, id, NOW + IDLE).await.unwrap());
    assert_eq!(store.sessions.list(ada, NOW + IDLE).await.unwrap(), []);
    let rotation = store.sessions.rotate(ada, id, Generation(0), GRACE, IDLE, NOW + IDLE).await.unwrap();
    assert_eq!(rotation, Rotation::Expired);
    // regular use does not extend the session beyond its absolute end
    let (mut now, mut generation) = (NOW, Generation(0));
    while now + IDLE <= NOW + ABSOLUTE {
        now = now + IDLE - Duration::from_millis(1);
        match store.sessions.rotate(ada, id, generation, GRACE, IDLE, now).await.unwrap() {
            Rotation::Rotated(grant) => generation = grant.generation,
            other => panic!("{other:?}"),
        }
    }
    assert!(store.sessions.is_live(ada, id, NOW + ABSOLUTE - Duration::from_millis(1)).await.unwrap());
    assert!(!store.sessions.is_live(ada, id, NOW + ABSOLUTE).await.unwrap());
    let end = store.sessions.rotate(ada, id, generation, GRACE, IDLE, NOW + ABSOLUTE).await.unwrap();
    assert_eq!(end, Rotation::Expired);
    store.close().await;
}

async fn i4_keys_expire_by_ttl(server: Redis) {
    let store = server.store();
    let (ada, id) = (account(), session(1));
    create(&store, ada, id, NOW).await;
    let key = server.command(&["--scan", "--pattern", "lk:s*"]);
    let ttl = |key: &str| Duration::from_millis(server.command(&["PTTL", key]).parse().unwrap());
    // A TTL may be a sixteenth longer than needed, so that few calls have to extend it. A minute allows for a slow test.
    assert!((IDLE - Duration::from_mins(1)..=IDLE + IDLE / 16).contains(&ttl(&key)));
    // uses the session until day 24; its absolute end is on day 30
    let mut now = NOW;
    for generation in 0..4 {
        now = now + Duration::from_hours(6 * 24);
        store.sessions.rotate(ada, id, Generation(generation), GRACE, IDLE, now).await.unwrap();
    }
    assert!(ttl(&key) > Duration::from_hours(5 * 24), "kept until the absolute end");
    assert!(ttl(&key) <= IDLE + IDLE / 16);
    // appends the first event
    store.sessions.revoke(ada, id, EndReason::Logout, NOW).await.unwrap();
    // `redis.event_retention` of the test's stores
    let retention = Duration::from_hours(1);
    let [stream, position] = ["lk:e*", "lk:n*"].map(|keys| server.command(&["--scan", "--pattern", keys]));
    let has_full_length = |ttl: &Duration| (retention..=retention + retention / 16).contains(ttl);
    let first = [ttl(&stream), ttl(&position)];
    assert!(first.iter().all(has_full_length), "{first:?}");
    // in each interval of ten seconds, only the first event extends the TTLs
    let shorter = retention - Duration::from_mins(1);
    for key in [&stream, &position] {
        server.command(&["PEXPIRE", key, &shorter.as_millis().to_string()]);
    }
    let last_event_id = || server.command(&["GET", &position]);
    let append_event = async || {
        create(&store, ada, id, NOW).await;
        store.sessions.revoke(ada, id, EndReason::Logout, NOW).await.unwrap();
        [ttl(&stream), ttl(&position)]
    };
    let before = last_event_id();
    let ttls = append_event().await;
    // An id begins with 13 digits of milliseconds, of which the first nine count units of ten seconds.
    if before[..9] == last_event_id()[..9] {
        assert!(ttls.iter().all(|ttl| *ttl <= shorter), "{ttls:?}");
    }
    // With a last event of an earlier interval, the next event extends the TTLs.
    let earlier = before[..13].parse::<u64>().unwrap() - 10_000;
    server.command(&["SET", &position, &format!("{earlier}-0"), "KEEPTTL"]);
    let ttls = append_event().await;
    assert!(ttls.iter().all(has_full_length), "{ttls:?}");
    store.close().await;
}
