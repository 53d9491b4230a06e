// SPDX-License-Identifier: MIT
// What programs written in Rust do with the standard library alone.
use std::fs::{rename, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::sync::mpsc::channel;
use std::thread;

// A thread gathers what comes in and writes it to the file of the day, as tracing-appender does.
fn rolling() {
    let (send, receive) = channel::<(u32, String)>();
    let worker = thread::spawn(move || {
        let mut today = 0;
        let mut file: Option<BufWriter<File>> = None;
        for (day, line) in receive {
            if day != today {
                today = day;
                let name = format!("app.jsonl.2026-11-{:02}", day);
                let next = OpenOptions::new().append(true).create(true).open(name).unwrap();
                file = Some(BufWriter::new(next));
            }
            file.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        }
        file.unwrap().flush().unwrap();
    });
    for n in 0..20000u32 {
        send.send((1 + n / 5000, format!("{{\"n\":{}}}\n", n))).unwrap();
    }
    drop(send);
    worker.join().unwrap();
}

// By size, in mid-record where the buffer ends there.
fn rotating() {
    let open = || OpenOptions::new().append(true).create(true).open("x.jsonl").unwrap();
    let mut file = BufWriter::new(open());
    for n in 0..20000u32 {
        writeln!(file, "{{\"n\":{}}}", n).unwrap();
        if n % 5000 == 4999 {
            file.flush().unwrap();
            rename("x.jsonl", format!("x.jsonl.{}", 4 - n / 5000)).unwrap();
            file = BufWriter::new(open());
        }
    }
    file.flush().unwrap();
}

fn main() {
    let what = std::env::args().nth(1).unwrap();
    match what.as_str() {
        "rolling" => rolling(),
        "rotating" => rotating(),
        "unbuffered" => {
            let mut file = File::create("x.jsonl").unwrap();
            for n in 0..5000 {
                writeln!(file, "{{\"n\":{},\"s\":\"{}\"}}", n, n).unwrap();
            }
        }
        at => {
            let at: u32 = at.parse().unwrap();
            for n in 0..20000 {
                if n == at {
                    println!("Starting server");
                }
                println!("{{\"n\":{}}}", n);
            }
        }
    }
}
