//! list_delayed, cancel_delayed and reschedule_delayed.

use super::Question;
use clap::Args;
use leveret::limits::DELAYED_LIST_LEN_MAX;
use serde_json::json;

const COLUMNS: &[&str] = &["id", "deliver_at", "persistent"];
/// A longer list would end here without a word.
const LIMIT_MAX: i64 = DELAYED_LIST_LEN_MAX as i64;
/// What is less is in seconds.
const UNIX_MS_MIN: u64 = 100_000_000_000;

#[derive(Args, Debug)]
pub(super) struct ListDelayed {
    /// List at most this many; --after shows those behind them
    #[arg(long, value_name = "COUNT", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=LIMIT_MAX))]
    limit: u32,

    /// List those behind the message with this id: the last one of the list before
    #[arg(long, value_name = "ID")]
    after: Option<u64>,

    /// The exchange in which they wait
    exchange: String,
}

#[derive(Args, Debug)]
pub(super) struct CancelDelayed {
    /// The exchange in which it waits
    exchange: String,

    /// Which message, as list_delayed says
    id: u64,
}

#[derive(Args, Debug)]
pub(super) struct RescheduleDelayed {
    /// The exchange in which it waits
    exchange: String,

    /// Which message, as list_delayed says; it gets another id, which list_delayed says then
    id: u64,

    /// When it is to be delivered, in Unix milliseconds; a time that is past is at once
    #[arg(value_name = "UNIX_MS", value_parser = unix_ms)]
    deliver_at: u64,
}

fn unix_ms(text: &str) -> Result<u64, String> {
    let ms = text.parse::<u64>().map_err(|error| error.to_string())?;
    if ms < UNIX_MS_MIN {
        return Err("that is a time before 1974: give milliseconds since 1970".to_owned());
    }
    Ok(ms)
}

pub(super) fn list(args: &ListDelayed, vhost: &str) -> Question {
    let ListDelayed { limit, after, exchange } = args;
    Question {
        banner: format!(
            "Listing delayed messages of exchange \"{exchange}\" in vhost \"{vhost}\" ..."
        ),
        request: json!({
            "verb": "list_delayed",
            "vhost": vhost,
            "exchange": exchange,
            "after": after,
            "limit": limit,
        }),
        columns: Some(COLUMNS),
    }
}

pub(super) fn cancel(args: &CancelDelayed, vhost: &str) -> Question {
    let CancelDelayed { exchange, id } = args;
    Question {
        banner: format!(
            "Cancelling delayed message {id} of exchange \"{exchange}\" in vhost \"{vhost}\" ..."
        ),
        request: json!({
            "verb": "cancel_delayed",
            "vhost": vhost,
            "exchange": exchange,
            "id": id,
        }),
        columns: None,
    }
}

pub(super) fn reschedule(args: &RescheduleDelayed, vhost: &str) -> Question {
    let RescheduleDelayed { exchange, id, deliver_at } = args;
    Question {
        banner: format!(
            "Rescheduling delayed message {id} of exchange \"{exchange}\" in vhost \"{vhost}\" ..."
        ),
        request: json!({
            "verb": "reschedule_delayed",
            "vhost": vhost,
            "exchange": exchange,
            "id": id,
            "deliver_at": deliver_at,
        }),
        columns: None,
    }
}
