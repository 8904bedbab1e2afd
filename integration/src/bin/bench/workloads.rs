//! Programs as people run them, as bash scripts for the tree that `integration/trees.sh` makes of them.

/// A shell that starts two hundred programs.
pub const SHELL_LOOP: &str = "for ((i = 0; i < 200; i++)); do /bin/true; done";

/// An interpreter that opens some hundred files as it starts.
pub const PYTHON_START: &str = "for i in 1 2 3; do python3 -c 'import json, asyncio, re'; done";

/// Nothing but computing.
pub const PYTHON_COMPUTES: &str = "python3 -c 'sum(i * i for i in range(2000000))'";

/// Four threads that take from one queue and put into another, under one interpreter lock.
pub const PYTHON_QUEUE: &str = r#"python3 -c '
import queue, threading
todo, done = queue.Queue(), queue.Queue()
def work():
    while (item := todo.get()) is not None:
        done.put(item)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for item in range(20000): todo.put(item)
assert sum(done.get() for _ in range(20000)) == sum(range(20000))
for _ in threads: todo.put(None)
for thread in threads: thread.join()
'"#;

/// Forty small files, two compilers at a time.
pub const COMPILE: &str = r#"mkdir /tmp/build; cd /tmp/build
for i in {1..40}; do
    printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint f%d(int n) { char b[64]; snprintf(b, sizeof b, "%%d", n); return strlen(b); }\n' $i >f$i.c
done
echo "all: $(echo f{1..40}.o)" >Makefile
make -s -j2 CC=gcc CFLAGS=-O1 && [ -e f40.o ]"#;

/// Three hundred files added, committed and looked at.
pub const GIT: &str = "mkdir /tmp/git; cd /tmp/git; git init -q . 2>/dev/null
for i in {1..300}; do echo $i >f$i; done
git add . && git -c user.email=a@example.org -c user.name=a commit -qm all && git status >/dev/null &&
[ $(git log --stat --format= | grep -c '|') = 300 ]";

/// Two walks over a few thousand files.
pub const FIND: &str = "for i in 1 2; do find /usr -xdev -type f -size +1k >/tmp/found; done; [ -s /tmp/found ]";

/// Reads many small files.
pub const GREP: &str = "grep -r -c no-such-word /usr/lib/python3* /usr/share/perl >/tmp/counts; [ -s /tmp/counts ]";

/// Packs, unpacks and removes a tree.
pub const TAR: &str = "cd /usr/share && tar cf /tmp/all.tar perl && mkdir /tmp/out && tar xf /tmp/all.tar -C /tmp/out &&
diff <(find perl | sort) <(cd /tmp/out && find perl | sort) && rm -rf /tmp/out";

/// Three hundred commits, then fifty thousand rows in one.
pub const SQLITE: &str = r#"python3 -c '
import sqlite3
base = sqlite3.connect("/tmp/base")
base.execute("create table t (a integer primary key, b text)")
for i in range(300):
    base.execute("insert into t (b) values (?)", (str(i) * 10,))
    base.commit()
base.executemany("insert into t (b) values (?)", ((str(i),) for i in range(50000)))
base.commit()
assert base.execute("select count(*) from t").fetchone() == (50300,)
'"#;

/// Reads and writes at random, 4 KiB at a time.
pub const FIO: &str = "cd /tmp && fio --name=f --rw=randrw --bs=4k --size=32m --ioengine=psync --minimal >&2";
