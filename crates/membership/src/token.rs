//! One-time join tokens.
//!
//! A token lets one node in that does not know the cluster secret. It names the node that made it, and only
//! that node can redeem it: so two that use one token at the same time meet at one place, where the
//! first that completes the handshake has it, and the second is refused. There is no rule needed for
//! a double spend, since there can be none. The price: while its owner is away, a token is worth
//! nothing; make another at a node that is there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::{self, Key};
use crate::identity::{NodeId, base32, unbase32};
use crate::time::Wall;
use crate::wire::{Reader, WireError, Writer};

/// What a joiner is given: text of the form `holdfast1.OWNER.ID.SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub(crate) owner: NodeId,
    pub(crate) id: TokenId,
    secret: Zeroizing<[u8; 20]>,
}

/// Names a token without telling it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub(crate) [u8; 5]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a token or the id of one. The text itself is never part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// Token.
    #[error(
        "not a join token: that is one word `holdfast1.….….…`, as `holdfast mesh token create` prints it; was a part lost in copying?"
    )]
    Token,
    /// Id.
    #[error(
        "not the id of a join token: that is 8 letters and digits, as `holdfast mesh token list` prints them"
    )]
    Id,
}

impl FromStr for TokenId {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<Self, TokenTextError> {
        let bytes = unbase32(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(TokenTextError::Id)
    }
}

impl JoinToken {
    /// The only node that can redeem it.
    #[must_use]
    pub fn owner(&self) -> NodeId {
        self.owner
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// For the one it is made for.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(base32(&*self.secret));
        Zeroizing::new(format!("{PREFIX}.{}.{}.{}", self.owner, self.id, *secret))
    }

    pub(crate) fn key(&self) -> Key {
        crypto::derive(b"holdfast join token v1", &*self.secret, "handshake key")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} of {})", self.id, self.owner)
    }
}

impl FromStr for JoinToken {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<Self, TokenTextError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, owner, id, secret] = parts[..] else { return Err(TokenTextError::Token) };
        let owner = owner.parse().map_err(|_| TokenTextError::Token)?;
        let id = id.parse().map_err(|_| TokenTextError::Token)?;
        let bytes = Zeroizing::new(unbase32(secret).unwrap_or_default());
        let mut secret = Zeroizing::new([0; 20]);
        if bytes.len() != secret.len() {
            return Err(TokenTextError::Token);
        }
        secret.copy_from_slice(&bytes);
        Ok(Self { owner, id, secret })
    }
}

/// What is known of a token once it is made; its secret is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its name.
    pub id: TokenId,
    /// When it was made.
    pub created: Wall,
    /// From when on it is worth nothing.
    pub expires: Wall,
    /// What became of it.
    pub state: TokenState,
    /// What its maker wrote beside it.
    pub note: String,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Nothing yet.
    Open,
    /// It was used.
    Spent {
        /// By whom.
        by: NodeId,
        /// When.
        at: Wall,
    },
    /// It was taken back.
    Revoked,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nobody knows it here.
    #[error("no such join token was made here; it may have expired long ago")]
    Unknown,
    /// Too late.
    #[error("the join token has expired; make another with `holdfast mesh token create`")]
    Expired,
    /// Second use.
    #[error("the join token was used by another node; make one for each node")]
    Spent,
    /// Taken back.
    #[error("the join token was revoked")]
    Revoked,
    /// No room.
    #[error("{MAX_TOKENS} join tokens are open already; revoke those that are not needed")]
    Full,
}

/// The tokens that this node has made.
#[derive(Default)]
pub(crate) struct Tokens {
    held: BTreeMap<TokenId, Held>,
}

struct Held {
    info: TokenInfo,
    key: Key,
}

impl Tokens {
    pub(crate) fn create(
        &mut self,
        owner: NodeId,
        now: Wall,
        valid: Duration,
        note: &str,
        entropy: (&[u8; 5], &[u8; 20]),
    ) -> Result<JoinToken, TokenError> {
        self.clean(now);
        if self.held.len() >= MAX_TOKENS {
            return Err(TokenError::Full);
        }
        let (id, secret) = (TokenId(*entropy.0), Zeroizing::new(*entropy.1));
        let token = JoinToken { owner, id, secret };
        let note = note.chars().take(60).collect();
        let expires = Wall(now.0.saturating_add(valid.as_secs()));
        let info = TokenInfo { id: token.id, created: now, expires, state: TokenState::Open, note };
        self.held.insert(token.id, Held { info, key: token.key() });
        Ok(token)
    }

    pub(crate) fn list(&self) -> impl Iterator<Item = &TokenInfo> {
        self.held.values().map(|held| &held.info)
    }

    pub(crate) fn revoke(&mut self, id: TokenId) -> Result<(), TokenError> {
        let held = self.held.get_mut(&id).ok_or(TokenError::Unknown)?;
        match held.info.state {
            TokenState::Spent { .. } => Err(TokenError::Spent),
            TokenState::Open | TokenState::Revoked => {
                held.info.state = TokenState::Revoked;
                Ok(())
            }
        }
    }

    /// The key that its handshake is sealed under, whatever became of it: a refusal is sealed, too.
    pub(crate) fn key(&self, id: TokenId) -> Option<&[u8; 32]> {
        self.held.get(&id).map(|held| &*held.key)
    }

    /// Whether this node may use the token. One that has used it may ask again, since the answer can be lost.
    pub(crate) fn check(&self, id: TokenId, by: NodeId, now: Wall) -> Result<(), TokenError> {
        let info = &self.held.get(&id).ok_or(TokenError::Unknown)?.info;
        match info.state {
            TokenState::Revoked => Err(TokenError::Revoked),
            TokenState::Spent { by: first, .. } if first != by => Err(TokenError::Spent),
            _ if now >= info.expires => Err(TokenError::Expired),
            _ => Ok(()),
        }
    }

    /// Uses it up. True if it was not before.
    pub(crate) fn spend(&mut self, id: TokenId, by: NodeId, now: Wall) -> Result<bool, TokenError> {
        self.check(id, by, now)?;
        let held = self.held.get_mut(&id).ok_or(TokenError::Unknown)?;
        let first = held.info.state == TokenState::Open;
        if first {
            held.info.state = TokenState::Spent { by, at: now };
        }
        Ok(first)
    }

    /// Forgets what has expired a week ago.
    fn clean(&mut self, now: Wall) {
        self.held.retain(|_, held| now.0 < held.info.expires.0.saturating_add(KEPT));
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.u16(self.held.len() as u16);
        for Held { info, key } in self.held.values() {
            w.raw(&info.id.0).raw(&**key).u64(info.created.0).u64(info.expires.0);
            match info.state {
                TokenState::Open => w.u8(0),
                TokenState::Revoked => w.u8(1),
                TokenState::Spent { by, at } => w.u8(2).raw(&by.0).u64(at.0),
            };
            w.short(info.note.as_bytes());
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut held = BTreeMap::new();
        for _ in 0..r.u16("tokens")? {
            let id = TokenId(r.array("token")?);
            let key = Key::new(r.array("token")?);
            let (created, expires) = (Wall(r.u64("token")?), Wall(r.u64("token")?));
            let state = match r.u8("token")? {
                0 => TokenState::Open,
                1 => TokenState::Revoked,
                2 => TokenState::Spent { by: NodeId(r.array("token")?), at: Wall(r.u64("token")?) },
                _ => return Err(WireError::Invalid("token")),
            };
            let note = r.text("token")?.to_owned();
            held.insert(id, Held { info: TokenInfo { id, created, expires, state, note }, key });
        }
        Ok(Self { held })
    }
}

const PREFIX: &str = "holdfast1";
const MAX_TOKENS: usize = 1000;
const KEPT: u64 = 7 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn id(n: u8) -> NodeId {
        Identity::from_seed([n; 32]).id()
    }

    fn one(valid: u64) -> (Tokens, JoinToken) {
        let mut tokens = Tokens::default();
        let valid = Duration::from_secs(valid);
        let token = tokens.create(id(1), Wall(1000), valid, "rack 7", (&[1; 5], &[2; 20]));
        (tokens, token.unwrap())
    }

    #[test]
    fn a_token_is_one_word_and_reads_back() {
        let (_, token) = one(60);
        let text = token.to_text();
        assert_eq!(text.parse::<JoinToken>().as_ref(), Ok(&token));
        assert_eq!(token.id().to_string().parse::<TokenId>(), Ok(token.id()));
        assert!(!format!("{token:?}").contains(&text[text.len() - 12..]));
        for bad in [&text[1..], &text[..text.len() - 1], "", "holdfast1.a.b.c", "holdfast2.a.b.c"] {
            assert_eq!(bad.parse::<JoinToken>(), Err(TokenTextError::Token), "{bad}");
        }
        assert!(!TokenTextError::Token.to_string().contains(&text[20..]));
    }

    #[test]
    fn a_token_lets_one_in_once() {
        let (mut tokens, token) = one(60);
        assert_eq!(tokens.check(token.id, id(2), Wall(1010)), Ok(()));
        assert_eq!(tokens.spend(token.id, id(2), Wall(1010)), Ok(true));
        assert_eq!(tokens.spend(token.id, id(2), Wall(1011)), Ok(false), "its answer was lost");
        assert_eq!(tokens.spend(token.id, id(3), Wall(1011)), Err(TokenError::Spent));
        assert_eq!(tokens.revoke(token.id), Err(TokenError::Spent));
        let state = TokenState::Spent { by: id(2), at: Wall(1010) };
        assert_eq!(tokens.list().next().unwrap().state, state);
    }

    #[test]
    fn a_token_expires_and_is_revoked() {
        let (mut tokens, token) = one(60);
        assert_eq!(tokens.check(token.id, id(2), Wall(1059)), Ok(()));
        assert_eq!(tokens.check(token.id, id(2), Wall(1060)), Err(TokenError::Expired));
        assert_eq!(tokens.revoke(token.id), Ok(()));
        assert_eq!(tokens.spend(token.id, id(2), Wall(1001)), Err(TokenError::Revoked));
        assert_eq!(tokens.revoke(TokenId([9; 5])), Err(TokenError::Unknown));
        assert_eq!(tokens.check(TokenId([9; 5]), id(2), Wall(0)), Err(TokenError::Unknown));
    }

    #[test]
    fn what_became_of_a_token_survives_a_restart() {
        let (mut tokens, token) = one(60);
        tokens.spend(token.id, id(2), Wall(1010)).unwrap();
        let mut w = Writer::default();
        tokens.write(&mut w);
        let mut read = Tokens::read(&mut Reader(&w.0)).unwrap();
        assert!(read.list().eq(tokens.list()));
        assert_eq!(read.key(token.id), tokens.key(token.id));
        assert_eq!(read.spend(token.id, id(3), Wall(1011)), Err(TokenError::Spent));
    }

    #[test]
    fn there_are_only_so_many_and_old_ones_go() {
        let (mut tokens, _) = one(60);
        let mut create = |n: u32, now| {
            let mut entropy = [0; 5];
            entropy[..4].copy_from_slice(&n.to_be_bytes());
            let valid = Duration::from_secs(60);
            tokens.create(id(1), Wall(now), valid, "", (&entropy, &[2; 20])).map(|_| ())
        };
        for n in 1..MAX_TOKENS as u32 {
            assert_eq!(create(n, 1000), Ok(()));
        }
        assert_eq!(create(5000, 1000), Err(TokenError::Full));
        assert_eq!(create(5000, 1060 + KEPT), Ok(()));
    }
}
