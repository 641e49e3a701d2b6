-- How many bytes of its log the handlers of a job have filled.
ALTER TABLE jobs ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
-- Events of type 8 are log, 9 output, 10 truncated.
