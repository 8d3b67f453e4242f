-- Dead letters of a partition that follow each other with one cause. Run with search_path set to coinflow's schema.

CREATE TABLE dead_letter_run (
    cluster_id       text        NOT NULL,
    kafka_topic      text        NOT NULL,
    kafka_partition  integer     NOT NULL,
    kafka_generation integer     NOT NULL,
    sqlstate         text,
    schema_major     bigint,
    letters          bigint      NOT NULL,
    began_at         timestamptz NOT NULL DEFAULT now(),
    held_at          timestamptz,
    accepted_at      timestamptz,
    PRIMARY KEY (cluster_id, kafka_topic, kafka_partition)
);

COMMENT ON TABLE dead_letter_run IS 'Partitions whose last records became dead letters, all for one cause; a book that is stored ends it';
COMMENT ON COLUMN dead_letter_run.schema_major IS 'The major version of the schema header; null if sqlstate is the cause';
COMMENT ON COLUMN dead_letter_run.letters IS 'Counted until the partition is held';
COMMENT ON COLUMN dead_letter_run.held_at IS 'Since when nothing more of this cause is stored';
COMMENT ON COLUMN dead_letter_run.accepted_at IS 'When consumerd dead-letters accept let the rest of them pass';
