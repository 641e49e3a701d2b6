-- What became of a commit whose answer was lost: its mark is here, or it did not happen. The number of a transaction does
-- not tell: after a crash the server may give it to another one.
CREATE TABLE commits (
    mark UUID PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX commits_at ON commits (at);
