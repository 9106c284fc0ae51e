//! Loading nftables tables whole, of any size, and switching from one to the next at once.
//!
//! One transaction is one message, and a message must fit the socket's send buffer, which a user
//! namespace cannot raise above the machine's `net.core.wmem_max`. So a table is filled piece by
//! piece while it is dormant, which means that its chains see no packet; one last small transaction
//! wakes it and puts the table that it replaces to sleep. No packet meets half a rule set, and none
//! meets no rule set.

use super::error::Error;
use super::netns::{Netns, refused};
use super::network::in_runtime;
use super::obstacle::Operation;
use nix::errno::Errno;
use nlink::netlink::nftables::{Chain, Family, Object, Rule, Set, SetElement, Transaction};
use nlink::netlink::{Connection, Nftables};

/// `NFT_TABLE_F_DORMANT` (`linux/netfilter/nf_tables.h`).
const DORMANT: u32 = 1;

/// Bytes of a piece, well under the default of `net.core.wmem_max`, 212,992.
const PIECE: usize = 120_000;

/// At most this many elements in one message, whose attributes are limited to 65,535 bytes.
pub(super) const ELEMENTS: usize = 400;

/// A table that is being written down, in the order in which it will be loaded.
pub(super) struct Draft {
    name: String,
    steps: Vec<Step>,
}

enum Step {
    Chain(Chain),
    Rule(Rule),
    Object(Object),
    Set(Set),
    Elements(Set, Vec<SetElement>),
}

impl Step {
    /// No less than the bytes of its message; the longest rules here have 16 expressions of 60
    /// bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Chain(_) | Self::Set(_) => 400,
            Self::Object(_) => 700,
            Self::Rule(_) => 1_200,
            Self::Elements(_, elements) => 200 + elements.len() * 150,
        }
    }

    fn onto(self, transaction: Transaction) -> Transaction {
        match self {
            Self::Chain(chain) => transaction.add_chain(chain),
            Self::Rule(rule) => transaction.add_rule(rule),
            Self::Object(object) => transaction.add_object(&object),
            Self::Set(set) => transaction.add_set(set),
            Self::Elements(set, elements) => transaction.add_set_elements(&set, &elements),
        }
    }
}

impl Draft {
    /// An empty table of the family `inet`.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            steps: Vec::new(),
        }
    }

    /// Adds a chain that others jump to.
    ///
    /// # Errors
    /// A name that the kernel does not take.
    pub(super) fn chain(&mut self, name: &str) -> nlink::Result<()> {
        self.steps.push(Step::Chain(
            Chain::new(self.name.as_str(), name)?.family(Family::Inet),
        ));
        Ok(())
    }

    /// Adds a chain on a hook.
    ///
    /// # Errors
    /// A name that the kernel does not take.
    pub(super) fn base(
        &mut self,
        name: &str,
        base: nlink::netlink::nftables::BaseChain,
    ) -> nlink::Result<()> {
        self.steps.push(Step::Chain(
            Chain::new(self.name.as_str(), name)?
                .family(Family::Inet)
                .base(base),
        ));
        Ok(())
    }

    /// Adds a rule to a chain.
    pub(super) fn rule(&mut self, chain: &str, write: impl FnOnce(Rule) -> Rule) {
        self.steps.push(Step::Rule(write(
            Rule::new(&self.name, chain).family(Family::Inet),
        )));
    }

    /// Adds a counter with a comment that says what it counts, cut to what the kernel stores.
    pub(super) fn counter(&mut self, name: &str, comment: &str) {
        let end = (0..=comment.len().min(127))
            .rev()
            .find(|at| comment.is_char_boundary(*at))
            .unwrap_or(0);
        self.steps.push(Step::Object(
            Object::counter(&self.name, name)
                .family(Family::Inet)
                .comment(&comment[..end]),
        ));
    }

    /// Adds a set, or a map, with its elements.
    pub(super) fn set(&mut self, set: &Set, elements: Vec<SetElement>) {
        self.steps.push(Step::Set(set.clone()));
        let mut rest = elements;
        while !rest.is_empty() {
            let next = rest.split_off(rest.len().min(ELEMENTS));
            self.steps.push(Step::Elements(
                set.clone(),
                std::mem::replace(&mut rest, next),
            ));
        }
    }

    /// A set of this table, to be given to [`Draft::set`].
    pub(super) fn new_set(&self, name: &str) -> Set {
        Set::new(&self.name, name).family(Family::Inet)
    }

    async fn load(self, conn: &Connection<Nftables>) -> nlink::Result<()> {
        let mut piece = conn
            .transaction()
            .destroy_table(&self.name, Family::Inet)
            .add_table_with_flags(&self.name, Family::Inet, DORMANT);
        let mut bytes = 0;
        for step in self.steps {
            bytes += step.bytes();
            piece = step.onto(piece);
            if bytes > PIECE {
                std::mem::replace(&mut piece, conn.transaction())
                    .commit(conn)
                    .await?;
                bytes = 0;
            }
        }
        piece.commit(conn).await
    }
}

/// Where a table is loaded.
pub(super) struct Place<'a> {
    /// The namespace.
    pub(super) netns: &'a Netns,
    /// Whose it is, for messages.
    pub(super) node: &'a str,
    /// Which rules, for messages.
    pub(super) what: &'static str,
}

/// Loads a table and lets it take over from another. `settle` reads what the other one has counted,
/// once no packet meets it any more and before it is gone.
///
/// # Errors
/// What the kernel refused. The other table is then still in force.
pub(super) fn switch<T: Send>(
    place: &Place<'_>,
    draft: Draft,
    replaces: Option<&str>,
    settle: impl AsyncFnOnce(&Connection<Nftables>, &str) -> nlink::Result<T> + Send,
) -> Result<Option<T>, Error> {
    with_nftables(place, async move |conn| {
        let name = draft.name.clone();
        draft.load(conn).await?;
        let wake = conn.transaction().update_table(&name, Family::Inet, 0);
        let Some(old) = replaces else {
            wake.commit(conn).await?;
            return Ok(None);
        };
        wake.update_table(old, Family::Inet, DORMANT)
            .commit(conn)
            .await?;
        let counted = settle(conn, old).await?;
        conn.transaction()
            .del_table(old, Family::Inet)
            .commit(conn)
            .await?;
        Ok(Some(counted))
    })
}

/// Talks to the nftables of a namespace.
///
/// # Errors
/// What the kernel refused.
pub(super) fn with_nftables<T: Send>(
    place: &Place<'_>,
    work: impl AsyncFnOnce(&Connection<Nftables>) -> nlink::Result<T> + Send,
) -> Result<T, Error> {
    let failed = |source: nlink::Error| match source.errno().map(Errno::from_raw) {
        // ENOENT is an expression whose module is missing: what the rules name, they bring along.
        Some(
            errno @ (Errno::EPROTONOSUPPORT
            | Errno::EOPNOTSUPP
            | Errno::ENOENT
            | Errno::EPERM
            | Errno::EMFILE),
        ) => refused(Operation::Nftables, errno),
        _ => Error::Rules {
            what: place.what,
            node: place.node.to_owned(),
            source,
        },
    };
    place.netns.run(|| {
        in_runtime(async {
            let conn = Connection::<Nftables>::new().map_err(failed)?;
            work(&conn).await.map_err(failed)
        })
    })
}
