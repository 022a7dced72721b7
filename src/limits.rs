//! Every bound in the program, with its reason. Nothing a peer sends can exceed or move them; those
//! that an operator may change are the defaults of `config.rs`.

// Wire.
/// Largest frame offered in `connection.tune`, in bytes (RabbitMQ: 131072).
pub const FRAME_MAX: u32 = 131_072;
/// Smallest frame_max a client may ask for (AMQP 0-9-1, 1.4.2.6).
pub const FRAME_MIN: u32 = 4_096;
/// RabbitMQ lets a payload be as large as frame_max, though the frame adds 8 octets to it.
pub const FRAME_OVERHEAD: usize = 8;
/// Nesting of tables and arrays: real headers stay below 5.
pub const TABLE_DEPTH_MAX: usize = 64;
/// Fields of a table, nested ones included, so that checking one is bounded by its bytes and this.
pub const TABLE_FIELDS_MAX: usize = 65_536;
/// Bytes of a name or routing key: a shortstr.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest reply text: a shortstr.
pub const REPLY_TEXT_MAX: usize = 255;
/// Longest explanation of a peer's mistake in the log, which would show up to a frame of it.
pub const LOG_TEXT_MAX: usize = 1_024;
/// Bytes of what a client calls itself that each of its lines in the log repeats.
pub const CLIENT_NAME_LOGGED_BYTES: usize = 255;
/// Announced body sizes above this are a connection error (RabbitMQ: 512 MiB).
pub const BODY_SIZE_HARD_MAX: u64 = 536_870_912;
/// Default of `max_message_size` in bytes (RabbitMQ 3.x).
pub const MESSAGE_SIZE_MAX: u64 = 134_217_728;
/// Bodies above this travel by reference and are split by frame_max as they leave.
pub const INLINE_BODY_MAX: usize = 16 * 1024;

// Connections.
/// Channels per connection offered in tune (RabbitMQ: 2047).
pub const CHANNELS_MAX: u16 = 2_047;
/// Heartbeat interval offered in tune, in seconds.
pub const HEARTBEAT_S: u16 = 60;
/// From accept to open-ok (RabbitMQ: 10 s).
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// A message of a quorum queue that says nothing else may come back this often (RabbitMQ 4).
pub const QUORUM_DELIVERY_LIMIT: u64 = 20;
/// A delivery that is not acknowledged for so long ends its channel (RabbitMQ: 30 min).
pub const CONSUMER_TIMEOUT_MS: u64 = 1_800_000;
/// How long a policy may take to shorten that for what is delivered already (RabbitMQ: 60 s).
pub const CONSUMER_TIMEOUT_CHECK_MS: u64 = 60_000;
/// A peer that failed before it was let in is dropped after this long (RabbitMQ: 3 s).
pub const SILENT_CLOSE_MS: u64 = 3_000;
/// A peer that owes us close-ok is dropped after min(heartbeat, this).
pub const CLOSE_MS_MAX: u64 = 30_000;
/// Bytes of unfinished contents that one connection may hold before it must finish one.
pub const PARTIAL_CONTENT_BYTES_MAX: usize = 256 * 1024 * 1024;

// Links.
/// Deliveries that a consumer may have in its inbox or output before it counts as blocked.
pub const CONSUMER_CREDIT_MESSAGES: u32 = 8_192;
/// Bytes of the same.
pub const CONSUMER_CREDIT_BYTES: u32 = 4 * 1024 * 1024;
/// Unacknowledged deliveries of one channel; at the limit its consumers count as blocked.
pub const UNACKED_MAX: usize = 1 << 20;
/// Publishes of one channel whose confirm waits for the disk; at the limit the connection is not
/// read.
pub const UNCONFIRMED_MAX: usize = 1 << 20;
/// Replies of one channel that wait for the disk or a page; at the limit the connection is not
/// read.
pub const HELD_REPLIES_MAX: usize = 4_096;
/// Buffered publishes and settlements of one transaction.
pub const TX_OPERATIONS_MAX: usize = 1 << 20;
/// Body bytes of one transaction.
pub const TX_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Entries of one channel's route cache, at most.
pub const ROUTE_CACHE_MAX: usize = 131_072;
/// Entries that any channel's route cache may have; more come from the broker's budget, this many
/// at a time.
pub const ROUTE_CACHE_SHARE: usize = 256;
/// Entries of all route caches beyond their first share: some 60 MiB.
pub const ROUTE_CACHE_BUDGET: usize = 262_144;
/// Entries in one channel's permission cache.
pub const ACCESS_CACHE_MAX: usize = 64;
/// Bytes that one compiled pattern may take; real ones take a few hundred.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Look-aheads of one policy's pattern, each compiled by itself; real ones have one or two.
pub const LOOK_AHEADS_MAX: usize = 8;
/// Messages that an exchange remembers for what is bound later; replayed in one lock hold.
pub const HISTORY_LEN_MAX: usize = WORK_PER_LOCK_MAX;
/// Bytes of the same.
pub const HISTORY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes that all exchanges of a broker remember.
pub const HISTORIES_BYTES_MAX: u64 = 64 * 1024 * 1024;

// Output.
/// Above this much unwritten output a connection's deliveries wait in the inbox.
pub const OUTPUT_HIGH_BYTES: usize = 512 * 1024;
/// Above this much unwritten output a connection is not read either.
pub const OUTPUT_HARD_BYTES: usize = 8 * 1024 * 1024;
/// A peer that takes no byte of pending output for this long is closed.
pub const OUTPUT_STALLED_MS_MAX: u64 = 60_000;

// Alarms.
/// Default of `vm_memory_high_watermark`: the part of all memory above which publishers are
/// blocked (RabbitMQ 3: 0.4).
pub const MEMORY_HIGH_WATERMARK: f64 = 0.4;
/// Default of `disk_free_limit`: room in bytes below which publishers are blocked (RabbitMQ:
/// 50 MB).
pub const DISK_FREE_BYTES_MIN: u64 = 50_000_000;
/// From one look at memory and disk to the next, at least and at most (RabbitMQ: 0.1 s and 10 s for
/// the disk, 2.5 s for memory).
pub const MEASURE_MS_MIN: u64 = 100;
pub const MEASURE_MS_MAX: u64 = 10_000;
/// The same while an alarm is in force.
pub const MEASURE_ALARMED_MS: u64 = 1_000;
/// From one line in the log about an alarm to the next, at least.
pub const ALARM_LINE_MS_MIN: u64 = 10_000;
/// What publishers are thought to use up at most: the next look comes before they could have used
/// what is left.
pub const MEASURE_BYTES_PER_MS: u64 = 1_000_000;

// Fairness.
/// Queue operations that one `handle_input` may do before it yields.
pub const OPERATIONS_PER_TURN: usize = 20_000;
/// Destinations that a plugged router looks through in the time of a queue operation.
pub const DESTINATIONS_PER_OPERATION: usize = 64;
/// The ticker looks at the clock at least this often, in milliseconds.
pub const TICK_MS_MAX: u64 = 10_000;
/// A system clock that was set by more is worth a line in the log.
pub const CLOCK_JUMP_MS: u64 = 3_600_000;
/// Queues that the ticker looks at before it looks at the clock again.
pub const TICKS_PER_TURN: usize = 256;
/// Dead letters that one turn moves, each new place counted, and each letter that a full queue
/// sends on; the ticker moves the rest.
pub const DEAD_LETTERS_PER_TURN: usize = 1_024;
/// Dead letters whose records are appended in one go.
pub const DEAD_LETTERS_PER_RECORD_BATCH: usize = 128;
/// How long dead letters wait that the disk has no room or time for.
pub const DEAD_LETTERS_RETRY_MS: u64 = 10;
/// Ways on which dead letters go round that the log tells of, and queues that such a line names.
pub const DEAD_LETTER_CYCLES_LOGGED_MAX: usize = 1_024;
pub const DEAD_LETTER_CYCLE_QUEUES_LOGGED: usize = 16;
/// Dead letters of one queue that have not moved; beyond them nothing expires or overflows there,
/// and consumers are given nothing.
pub const DYING_MAX: usize = 8_192;
/// Dead letters that no queue takes, of a queue that wants them to arrive: how many are tried again
/// at a time, and how long they wait for that; once one was taken, not as long.
pub const HELD_BACK_PER_TRY: usize = 1_024;
pub const HELD_BACK_RETRY_MS: u64 = 1_000;
pub const HELD_BACK_RETRY_SOON_MS: u64 = 20;
/// Messages of one queue that wait for their next attempt: some 30 MiB beside their bodies. Beyond
/// them the queue hands nothing over until one is ready again.
pub const RETRYING_MAX: usize = 1 << 18;
/// Dead letters that wait; beyond them whoever makes more moves some first.
pub const DEAD_LETTERS_WAITING_MAX: usize = 16_384;
/// Delayed messages of one exchange on their way from there to queues, at once.
pub const RELEASES_UNDER_WAY_MAX: usize = 1_024;
/// Seqs of messages that gave up their place in a delayed exchange's queue which one verb forgets
/// once their time is over: more than one verb adds.
pub const GIVEN_UP_FORGOTTEN_AT_ONCE: usize = 256;
/// Delayed messages are read from disk this long before they are due, in milliseconds.
pub const RELEASE_READ_AHEAD_MS: u64 = 1_000;
/// Delayed messages that one request lists.
pub const DELAYED_LIST_LEN_MAX: usize = 100_000;
/// Messages that leave memory in one lock hold where they join pages anywhere (delayed and urgent
/// ones), and pages between them that are written anew for it.
pub const JOINING_PAGES_AT_ONCE: usize = 4_096;
pub const JOINED_PAGES_AT_ONCE: usize = 16;
/// Messages settled, purged or requeued in one lock hold.
pub const WORK_PER_LOCK_MAX: usize = 4_096;
/// Octets of a message's key (`x-group-key`, `x-fair-key`) that count.
pub const LANE_KEY_BYTES_MAX: usize = 255;

// Paging.
/// What a message in memory costs beside its body: its entry, its names and properties, and what
/// the allocator adds.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 160;
/// Messages of a page: 56 bytes of memory for them if they were published one after the other.
pub const PAGE_LEN: usize = 1_024;
/// Pages' worth of messages at which a checkpoint looks while others wait for their queue.
pub const ALIVE_PART_PAGES: usize = 4;
/// What a message that expires costs in a queue with `x-expiry = exact`, in memory or not: its
/// place in the order of times.
pub const DUE_BYTES: u64 = 32;
/// Messages that expire in one lock hold of such a queue: those that have lain in no order take a
/// microsecond each.
pub const EXPIRED_PER_LOCK_MAX: usize = 512;
/// Pages that one load of due messages may touch: each is written anew in one lock hold.
pub const DUE_PAGES_PER_LOAD: usize = 32;
/// A queue with `x-expiry = exact` reads ahead while fewer messages than this are in memory before
/// its pages: it counts them each time.
pub const READ_AHEAD_MAPPED_LEN: usize = 256;
/// Messages that one load brings back; it is answered in one lock hold.
pub const LOAD_LEN: usize = WORK_PER_LOCK_MAX;
/// Body bytes of the same, roughly.
pub const LOAD_BYTES: u64 = 8 * 1024 * 1024;
/// A queue with consumers asks for pages while fewer messages than this are in memory before them:
/// as many as are handed over while a page is read.
pub const READ_AHEAD_LEN: usize = 4_096;

// Store.
/// Journal bytes that wait for the disk before publishers are not read.
pub const JOURNAL_PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Payload of a journal frame, at most: a message of 1 MiB with its names and properties is one
/// frame, a record that is longer goes over several. Whoever reads a journal needs a buffer of this
/// length, so it may grow and must not shrink.
pub const FRAME_BYTES: usize = 1024 * 1024 + 64 * 1024;
/// What one round writes before it syncs, roughly: what came first does not wait for all that came
/// behind it.
pub const ROUND_BYTES: usize = 32 * 1024 * 1024;
/// Default length of a journal segment.
pub const SEGMENT_BYTES: u64 = 128 * 1024 * 1024;
/// Entries of an index page: decoding one takes microseconds, remembering one 40 bytes.
pub const INDEX_PAGE_LEN: usize = 1_024;
/// Bytes of a segment that are read at once for messages that lie near each other.
pub const MESSAGE_READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes between two messages that are read rather than skipped: less than a read of its own costs.
pub const MESSAGE_READ_GAP_MAX: u64 = 64 * 1024;
/// Places that cannot be read in what a start replays, at most: with more the start is refused.
pub const GAPS_MAX: usize = 64;
/// Segments' lengths that the journal may have behind such a place before a checkpoint passes it:
/// until then the file may come back from a copy, and each start reads them.
pub const GAP_SEGMENTS_MAX: u64 = 8;
/// Holds of queues that such places make together, at most, each some hundred bytes: with more the
/// start is refused too.
pub const HOLDS_MAX: usize = 1_000_000;
/// Records of a segment, at most.
pub const SEGMENT_RECORDS_MAX: u64 = 4_000_000;

/// Bytes of a file of transient messages that left memory. The index of the one that is written to
/// is in memory: some 9 bytes a message.
pub const SPILL_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Segments' worth of bytes that may be dead in a busy broker before it compacts anything: most
/// die by themselves soon.
pub const SLACK_SEGMENTS: u64 = 3;
/// Changes of definitions that wait in memory for a checkpoint before one is made.
pub const DEFINITIONS_PENDING_MAX: usize = 16_384;
/// Changes that the catalogue is given at once.
pub const CATALOGUE_SLICE_MAX: usize = 4_096;
/// Bytes of stored messages that the queues hold in memory before some leave it.
pub const RESIDENT_BYTES: u64 = 64 * 1024 * 1024;
/// A smaller memory watermark is warned of: connections' buffers and what the allocator keeps after
/// a flood may fill it alone.
pub const WATERMARK_BYTES_SCANT: u64 = 150_000_000;
/// No transient message is spilled while the process uses less than this part of the memory
/// watermark: what queues count as theirs may be one body that all of them share.
pub const SPILL_USED_PART: f64 = 0.4;
/// Above it, the part of the watermark that the queues may hold: half, so that the rest of the
/// program and what the allocator keeps fit beside it.
pub const SPILL_PART: f64 = 0.5;
/// The same two once the alarm is near.
pub const SPILL_USED_PART_NEAR: f64 = 0.8;
pub const SPILL_PART_NEAR: f64 = 0.25;
/// What the queues may hold in any case: if less stayed in memory, more would be loaded at once.
pub const SPILL_BYTES_MIN: u64 = 2 * LOAD_BYTES;

// Queue arguments and policies.
/// Longest expiry of a message or queue in milliseconds (RabbitMQ: 10 years).
pub const EXPIRY_MS_MAX: i64 = 315_360_000_000;
/// Keys that a queue or exchange remembers if it leaves out duplicates and says no more (LavinMQ).
pub const DEDUPLICATION_CACHE_LEN: u64 = 128;
/// The same, at most: some 150 MiB.
pub const DEDUPLICATION_CACHE_MAX: i64 = 1 << 20;
/// What a remembered key takes, roughly: itself twice, what is known of it, and the spare room of
/// both places.
pub const DEDUPLICATION_KEY_BYTES: u64 = 150;
/// Keys that a cache gets room for at once, beyond the first `DEDUPLICATION_CACHE_LEN`.
pub const DEDUPLICATION_SHARE_LEN: usize = 1_024;
/// Keys at which a checkpoint looks while publishers wait for their cache.
pub const DEDUPLICATION_COPY_LEN: usize = 1_024;
/// Keys that have become too old and go while one publisher has their cache, beside two for each
/// of its own.
pub const DEDUPLICATION_SWEEP_LEN: usize = 1_024;
/// Bytes of all keys of a broker beyond those first ones, at most, and the part of the memory
/// watermark that they may be. A cache that gets no more room forgets its oldest keys.
pub const DEDUPLICATION_BYTES_MAX: u64 = 256 * 1024 * 1024;
pub const DEDUPLICATION_PART: f64 = 0.25;
/// Bytes of a policy's pattern and definition: real ones have some hundred.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Exchanges that a changed policy is applied to in one lock hold, and queues whose consumers are
/// woken together for it.
pub const POLICY_STEP_LEN: usize = 256;

// Control.
/// Bytes of a request on the control socket; the longest is a policy of `POLICY_BYTES_MAX`.
pub const CONTROL_LINE_BYTES_MAX: usize = 1 << 20;
/// Connections to the control socket at a time; more wait.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// How long the other end may take to send a request or to take an answer.
pub const CONTROL_LINE_MS_MAX: u64 = 10_000;
