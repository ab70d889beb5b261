//! Echo load over epoll in one thread: a closed loop with one outstanding request per connection.
//!
//! `loadgen --tcp HOST:PORT | --unix PATH | --udp HOST:PORT [--tls AUTHORITIES.pem] [--reconnect]
//! [--connections N] [--size BYTES] [--seconds S | --requests N] [--warmup S] [--wait]`
//!
//! With `--reconnect` every request has a connection of its own, and with `--tls` a handshake.
//!
//! After the warm-up every reply has arrived and the server is idle. With `--wait` it then prints
//! `ready`, and makes a window for each line on standard input until that ends, so that the caller
//! can read the server's CPU clock before and after. A window ends idle too, and every reply in it
//! is compared with what was sent. Prints JSON, a line for each window: requests, seconds, requests
//! per second, p50 and p99 latency in microseconds.

mod window;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use loadgen::stream::Address;
use loadgen::wire::{Target, tls_config};
use window::{End, Load, Window};

struct Options {
    target: Target,
    reconnect: bool,
    connections: usize,
    size: usize,
    end: End,
    warmup: Duration,
    wait: bool,
}

const USAGE: &str = "usage: loadgen --tcp HOST:PORT | --unix PATH | --udp HOST:PORT \
[--tls AUTHORITIES.pem] [--reconnect] [--connections N] [--size BYTES] [--seconds S | --requests N] \
[--warmup S] [--wait]";

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("loadgen: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = run(&options) {
        eprintln!("loadgen: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(options: &Options) -> io::Result<()> {
    let mut load = Load::connect(&options.target, options.connections, options.size)?;
    if options.reconnect {
        load.reconnect();
    }
    load.window(End::After(options.warmup))?;
    if !options.wait {
        return report(&load.window(options.end)?);
    }
    println!("ready");
    io::stdout().flush()?;
    for line in io::stdin().lock().lines() {
        line?;
        report(&load.window(options.end)?)?;
    }
    Ok(())
}

fn report(window: &Window) -> io::Result<()> {
    let seconds = window.took.as_secs_f64();
    let requests = window.latencies.len();
    println!(
        "{{\"requests\": {requests}, \"seconds\": {seconds:.6}, \"requests_per_second\": {:.1}, \
         \"p50_us\": {:.2}, \"p99_us\": {:.2}}}",
        requests as f64 / seconds,
        window.percentile(0.50),
        window.percentile(0.99),
    );
    io::stdout().flush()
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut address, mut tls) = (None, None);
    let (mut connections, mut size) = (1, 1024);
    let (mut wait, mut reconnect) = (false, false);
    let mut end = End::After(Duration::from_secs(1));
    let mut warmup = Duration::from_millis(200);
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--wait" => wait = true,
            "--reconnect" => reconnect = true,
            _ => {}
        }
        if matches!(name.as_str(), "--wait" | "--reconnect") {
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--tcp" => address = Some(Address::Tcp(value)),
            "--unix" => address = Some(Address::Unix(value)),
            "--udp" => address = Some(Address::Udp(value)),
            "--tls" => tls = Some(tls_config(&value).map_err(|error| format!("{value}: {error}"))?),
            "--connections" => connections = count(&name, &value)?,
            "--size" => size = count(&name, &value)?,
            "--requests" => end = End::Requests(count(&name, &value)?),
            "--seconds" => end = End::After(duration(&name, &value)?),
            "--warmup" => warmup = duration(&name, &value)?,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(Options {
        target: Target {
            address: address.ok_or("no address")?,
            tls,
        },
        reconnect,
        connections,
        size,
        end,
        warmup,
        wait,
    })
}

fn count(name: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} needs a positive whole number, not {value}")),
    }
}

fn duration(name: &str, value: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = value.parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{name} needs seconds, not {value}"))
}
