-- The store of `lossref run --store DIR`, in DIR/lossref.sqlite3: what was run, of whom, and what came of it.
-- PRAGMA application_id says that a file is one ("loss" in ASCII), PRAGMA user_version which version of these tables it has.
-- To forget run 7: PRAGMA foreign_keys = ON; DELETE FROM runs WHERE id = 7;

BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,     -- in the order in which they began
    began TEXT NOT NULL,        -- UTC, ISO 8601
    seconds REAL,               -- NULL while it runs, and of a run that was killed
    whole INTEGER NOT NULL,     -- 1 once it ran to its end; else it runs, or was cut short
    machine TEXT NOT NULL,
    vectors TEXT NOT NULL,      -- their digest
    tier TEXT NOT NULL,         -- what was asked of them: a tier and those below it,
    operation TEXT,             -- NULL: all
    dtype TEXT,                 -- NULL: all
    cases TEXT NOT NULL,        -- globs with blanks between them; '': all
    shard INTEGER NOT NULL,     -- shard 2 ...
    shards INTEGER NOT NULL     -- ... of 3; 1 of 1 is everything
);

CREATE TABLE IF NOT EXISTS backends ( -- a row for each backend of each run
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    name TEXT NOT NULL,
    version TEXT NOT NULL,      -- '' where it has none
    device TEXT NOT NULL,
    dialect TEXT NOT NULL,      -- '' where it has no name
    stale INTEGER,              -- expectations that no longer hold; NULL while the run isn't whole
    UNIQUE (run, name)
);

CREATE TABLE IF NOT EXISTS packages ( -- what a backend consists of
    backend INTEGER NOT NULL REFERENCES backends ON DELETE CASCADE,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (backend, name)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS cases ( -- whatever was asked in any run; a name never changes its meaning
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    operation TEXT NOT NULL,
    dtype TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS results ( -- a row for each tensor of each call: the output forward, a gradient backward
    backend INTEGER NOT NULL REFERENCES backends ON DELETE CASCADE,
    number INTEGER NOT NULL,    -- of the call among the backend's
    direction TEXT NOT NULL,    -- forward, backward
    output TEXT NOT NULL,       -- "output", or the input that the gradient is of
    asked INTEGER NOT NULL REFERENCES cases,
    mode TEXT NOT NULL,
    verdict TEXT NOT NULL,      -- pass, fail, error, crash, timeout, skip, unsupported
    ratio REAL,                 -- the largest error in units of its bound, 'nan' where the answer is; NULL where none was measured
    ulps REAL,                  -- the same error in units of the last place
    promised TEXT NOT NULL,     -- the accuracy class; '' where nothing is promised
    kept TEXT,                  -- the classes whose bound it kept, like 'ABN'; NULL where it has no number to compare
    seconds REAL,               -- of one call; NULL where there is no answer
    note TEXT NOT NULL,
    known TEXT,                 -- the reason of the known deviation that excuses a failure; NULL of others, and while the run isn't whole
    PRIMARY KEY (backend, number, direction, output)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS broken ( -- the clauses that a result breaks which isn't a pass, and was answered or should have been
    backend INTEGER NOT NULL REFERENCES backends ON DELETE CASCADE,
    number INTEGER NOT NULL,
    direction TEXT NOT NULL,
    output TEXT NOT NULL,
    clause TEXT NOT NULL,
    PRIMARY KEY (backend, number, direction, output, clause)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS grades ( -- of whole runs
    backend INTEGER NOT NULL REFERENCES backends ON DELETE CASCADE,
    mode TEXT NOT NULL,
    operation TEXT NOT NULL,
    dtype TEXT NOT NULL,
    direction TEXT NOT NULL,
    grade TEXT,                 -- R, S, A, B, N, tightest first; NULL where no class was kept
    answered INTEGER NOT NULL,  -- tensors that had an answer, or failed to have one
    measured INTEGER NOT NULL,  -- of them those with a number where one was expected
    composed INTEGER NOT NULL,  -- 1 where the library lacks the operation, and a few of its functions make it up
    PRIMARY KEY (backend, mode, operation, dtype, direction)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS clauses ( -- how the clauses stand, in whole runs
    backend INTEGER NOT NULL REFERENCES backends ON DELETE CASCADE,
    clause TEXT NOT NULL,
    level TEXT NOT NULL,        -- MUST, SHOULD, MAY
    standing TEXT NOT NULL,     -- kept, inaccurate, broken
    PRIMARY KEY (backend, clause)
) WITHOUT ROWID;

PRAGMA application_id = 1819243379;
PRAGMA user_version = 1;

COMMIT;
