-- The role and the database that the defaults of consumerd.toml name. consumerd makes its schema in it by itself.
--   sudo -u postgres psql -f role-and-database.sql
-- Over the local socket (peer) no password is needed; for TCP: \password coinflow
CREATE ROLE coinflow LOGIN;
-- consumerd wants UTF8, whatever the server's default is.
CREATE DATABASE coinflow OWNER coinflow ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0;

-- One who may read, and nothing else; after consumerd has run for the first time, in the database coinflow:
--   CREATE ROLE coinflow_reader LOGIN;
--   GRANT USAGE ON SCHEMA coinflow TO coinflow_reader;
--   GRANT SELECT ON ALL TABLES IN SCHEMA coinflow TO coinflow_reader;
--   ALTER DEFAULT PRIVILEGES FOR ROLE coinflow IN SCHEMA coinflow GRANT SELECT ON TABLES TO coinflow_reader;
