//! What the Rust programs share: the arguments, the list of patterns, one printed line for each.
//!
//! Called as `PROGRAM URL PREFIX`; every name made on the broker starts with PREFIX.

use std::any::Any;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::timeout;

pub type Done<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;
type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// For one pattern.
const LIMIT: Duration = Duration::from_secs(20);
/// For one answer of the broker.
pub const SOON: Duration = Duration::from_secs(8);

static ARGUMENTS: LazyLock<Vec<String>> = LazyLock::new(|| std::env::args().skip(1).collect());

pub enum Pattern {
    Run(Running),
    NotOffered(&'static str),
}

/// Lists patterns: `patterns!["hello" => hello(), "rpc" => squares(None)]`.
#[macro_export]
macro_rules! patterns {
    ($($title:literal => $future:expr),+ $(,)?) => {
        vec![$(($title, $crate::Pattern::Run(Box::pin($future)))),+]
    };
}

pub fn url() -> &'static str {
    &ARGUMENTS[0]
}

pub fn name(suffix: &str) -> String {
    format!("{}.{suffix}", ARGUMENTS[1])
}

/// The parts of the URL: user, password, host, port, vhost.
pub fn parts() -> (String, String, String, u16, String) {
    let rest = url().trim_start_matches("amqp://");
    let (authority, vhost) = rest.split_once('/').unwrap_or((rest, "%2F"));
    let vhost = vhost.split('?').next().unwrap_or_default();
    let (user, address) = authority
        .rsplit_once('@')
        .unwrap_or(("guest:guest", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = address.split_once(':').unwrap_or((address, "5672"));
    (
        decoded(user),
        decoded(password),
        host.to_owned(),
        port.parse().unwrap_or(5672),
        if vhost.is_empty() {
            "/".to_owned()
        } else {
            decoded(vhost)
        },
    )
}

fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at(piece.len().min(2));
        bytes.extend(u8::from_str_radix(code, 16).ok());
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Some 1 MiB body without a period that a frame size could hide.
pub fn big_body() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    })
    .take(1 << 20)
    .collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn panic_text(reason: Box<dyn Any + Send>) -> String {
    match reason.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => (*other.downcast::<&str>().unwrap_or(Box::new("panic"))).to_owned(),
    }
}

async fn outcome(running: Running) -> Result<(), String> {
    match timeout(LIMIT, tokio::spawn(running)).await {
        Err(_) => Err(format!("pattern not finished within {LIMIT:?}")),
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(stopped)) => Err(panic_text(stopped.into_panic())),
    }
}

/// The locked version of a crate.
fn version(package: &str) -> &'static str {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let rest = include_str!("../Cargo.lock")
        .split_once(&entry)
        .unwrap_or_default()
        .1;
    rest.split('"').next().unwrap_or_default()
}

/// Runs the patterns one after the other and ends the process.
pub async fn run(package: &str, patterns: Vec<(&'static str, Pattern)>) -> ! {
    std::panic::set_hook(Box::new(|_| {})); // the reason is on the line of its pattern
    println!("version {}", version(package));
    let mut failed = false;
    for (title, pattern) in patterns {
        match pattern {
            Pattern::NotOffered(why) => println!("not offered {title}: {why}"),
            Pattern::Run(running) => match outcome(running).await {
                Ok(()) => println!("ok {title}"),
                Err(reason) => {
                    failed = true;
                    println!("FAILED {title}: {}", one_line(&reason));
                }
            },
        }
    }
    std::process::exit(failed.into())
}
