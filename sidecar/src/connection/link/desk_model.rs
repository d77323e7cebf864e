//! Random histories of a session that begins over HTTP and may move: whatever the requests do, each side gets what the
//! other said, once and in order.
//!
//! The client of the model is allowed more than real ones do: it moves while a request waits, or comes again after it
//! was sent away. The order in which things happen is random, and a printed seed brings a history back.

use super::desk::{Desk, Refused, Step};

/// Sockets of the model are lists of what was sent over them.
type Socket = Vec<String>;

/// A small generator of pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// One session with both of its sides.
struct World {
    desk: Desk<Socket>,
    random: Random,
    /// What the connection has said and heard.
    said: u32,
    heard: Vec<String>,
    /// The connection's WebSocket, once it has one.
    socket: Option<Socket>,
    /// The payload that the connection works on.
    working: Option<String>,
    /// What the client has got by fetching.
    fetched: Vec<String>,
    fetching: bool,
    brought: u32,
    bringing: Option<String>,
    probing: bool,
    moved: bool,
    ended: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            desk: Desk::new("0".to_owned()),
            random: Random(seed),
            said: 0,
            heard: Vec::new(),
            socket: None,
            working: None,
            fetched: Vec::new(),
            fetching: false,
            brought: 0,
            bringing: None,
            probing: false,
            moved: false,
            ended: false,
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 | 1 => self.say(),
            2..=4 => self.look(),
            5 => self.finish_work(),
            6 | 7 => self.fetch(),
            8 | 9 => self.bring(),
            10 => self.probe(),
            _ => self.release_or_move(),
        }
    }

    fn say(&mut self) {
        self.said += 1;
        let packet = format!("4{}", self.said);
        match &mut self.socket {
            Some(socket) => socket.push(packet),
            None => self.desk.send(packet),
        }
    }

    /// The connection looks what there is.
    fn look(&mut self) {
        if self.socket.is_some() || self.ended {
            return;
        }
        let want_read = self.working.is_none() && self.random.below(3) > 0;
        match self.desk.step(want_read) {
            Some(Step::Moved { mut socket, out, brought }) => {
                socket.extend(out);
                self.socket = Some(socket);
                assert!(brought.is_none() || self.working.is_none(), "two payloads at once");
                self.working = self.working.take().or(brought);
            }
            Some(Step::Brought(payload)) => {
                assert!(want_read, "nobody wanted to read");
                self.working = Some(payload);
            }
            Some(Step::End(_)) => self.ended = true,
            Some(Step::Fetched) | None => (),
        }
    }

    fn finish_work(&mut self) {
        if let Some(payload) = self.working.take() {
            self.heard.push(payload);
            if self.socket.is_none() {
                self.desk.done();
            }
        }
    }

    fn fetch(&mut self) {
        if !self.fetching {
            self.fetching = match self.desk.begin_poll() {
                Ok(()) => true,
                Err(refused) => return assert_eq!(refused, Refused::Elsewhere),
            };
        }
        if let Some(packets) = self.desk.fetch() {
            assert!(!packets.is_empty(), "an answer holds something");
            // Whoever has said that it moves need not look at this answer.
            assert!(!self.moved || packets == ["6"], "packets go with the session");
            self.fetching = false;
            self.fetched.extend(packets.into_iter().filter(|packet| packet != "6"));
        }
    }

    fn bring(&mut self) {
        if self.bringing.is_none() {
            if self.desk.begin_post().is_err() {
                return;
            }
            self.brought += 1;
            self.bringing = Some(format!("b{}", self.brought));
        }
        let Some(payload) = &mut self.bringing else {
            return;
        };
        match self.desk.bring(payload) {
            Some(Ok(())) => self.bringing = None,
            Some(Err(_)) => {
                // The client is told that it was not taken, so it counts as never brought.
                self.bringing = None;
                self.brought -= 1;
            }
            None => (),
        }
    }

    fn probe(&mut self) {
        let free = !self.probing && !self.moved;
        assert_eq!(self.desk.begin_probe(), free, "one WebSocket tries at a time");
        self.probing |= free;
    }

    fn release_or_move(&mut self) {
        match self.random.below(4) {
            0 if self.probing => {
                self.desk.arrive(Socket::new()).expect("nothing has ended this session");
                self.desk.end_probe();
                (self.probing, self.moved) = (false, true);
            }
            1 if self.probing => {
                self.desk.end_probe();
                self.probing = false;
            }
            _ if self.probing => self.desk.release(),
            _ => (),
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.fetch();
            self.look();
            self.finish_work();
            if self.bringing.is_some() {
                self.bring();
            }
        }
    }

    fn check(&self, seed: u64) {
        let packets: Vec<String> = self.fetched.iter().chain(self.socket.iter().flatten()).cloned().collect();
        let expected: Vec<String> =
            std::iter::once("0".to_owned()).chain((1..=self.said).map(|number| format!("4{number}"))).collect();
        assert_eq!(packets, expected, "what the client got, seed {seed}");
        let expected: Vec<String> = (1..=self.brought).map(|number| format!("b{number}")).collect();
        assert_eq!(self.heard, expected, "what the connection heard, seed {seed}");
        assert_eq!(self.moved, self.socket.is_some(), "the WebSocket was taken over, seed {seed}");
        assert!(!(self.fetching && self.moved), "nobody is left waiting, seed {seed}");
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_whenever_a_session_moves() {
    let mut moved = 0;
    for seed in 0..20_000 {
        let mut world = World::new(seed);
        for _ in 0..60 {
            world.step();
        }
        world.settle();
        world.check(seed);
        moved += u32::from(world.moved);
    }
    assert!((5_000..20_000).contains(&moved), "{moved} of 20000 histories moved");
}

#[test]
fn a_second_request_of_a_kind_ends_the_session() {
    for second in [Desk::begin_poll, Desk::begin_post] {
        let mut desk: Desk<Socket> = Desk::new("0".to_owned());
        assert_eq!(desk.fetch().as_deref(), Some(&["0".to_owned()][..]));
        assert_eq!(second(&mut desk), Ok(()));
        assert_eq!(second(&mut desk), Err(Refused::Overlap));
        assert_eq!(second(&mut desk), Err(Refused::Elsewhere));
        assert!(desk.is_over());
        assert!(matches!(desk.step(true), Some(Step::Fetched)));
        assert!(matches!(desk.step(true), Some(Step::End(Some(_)))));
    }
}

#[test]
fn whoever_goes_unanswered_ends_the_session_after_what_was_brought() {
    let mut desk: Desk<Socket> = Desk::new("0".to_owned());
    assert_eq!(desk.begin_post(), Ok(()));
    assert_eq!(desk.bring(&mut "41".to_owned()), Some(Ok(())));
    assert_eq!(desk.begin_poll(), Ok(()));
    desk.abandon_poll();
    assert_eq!(desk.step(false), None);
    assert_eq!(desk.step(true), Some(Step::Brought("41".to_owned())));
    assert_eq!(desk.step(true), None);
    desk.done();
    assert_eq!(desk.step(true), Some(Step::End(None)));
    assert_eq!(desk.begin_poll(), Err(Refused::Elsewhere));
}

#[test]
fn a_session_that_leaves_sends_everybody_away_with_what_there_is() {
    let mut desk: Desk<Socket> = Desk::new("0".to_owned());
    assert_eq!(desk.begin_poll(), Ok(()));
    desk.send("1".to_owned());
    desk.leave();
    assert_eq!(desk.fetch(), Some(vec!["0".to_owned(), "1".to_owned()]));
    assert_eq!(desk.begin_poll(), Err(Refused::Elsewhere));
    assert_eq!(desk.begin_post(), Err(Refused::Elsewhere));
    assert!(desk.arrive(Socket::new()).is_err() && !desk.begin_probe());
}

#[test]
fn an_answer_holds_no_more_packets_than_clients_accept() {
    let mut desk: Desk<Socket> = Desk::new("0".to_owned());
    for _ in 0..20 {
        desk.send("42[\"n\"]".to_owned());
    }
    assert_eq!(desk.fetch().map(|packets| packets.len()), Some(16));
    assert!(!desk.is_empty(), "the rest waits for the next request");
    assert_eq!(desk.fetch().map(|packets| packets.len()), Some(5));
    assert!(desk.is_empty() && desk.has_room());
}
