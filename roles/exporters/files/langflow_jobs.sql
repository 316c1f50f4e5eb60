-- Counts of Langflow's jobs for a login that may read no table. Everything here runs with the rights of the owner, Langflow's own role.
-- No views: they would forbid Langflow's migrations to change the columns below them. Functions look at the table when they are called,
-- and there may be none yet. What users have sent stands in the column job_metadata and never leaves it.
CREATE SCHEMA IF NOT EXISTS flowfleet_metrics;

CREATE OR REPLACE FUNCTION flowfleet_metrics.jobs() RETURNS TABLE (state text, jobs bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $body$
BEGIN
    IF to_regclass('public.job') IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT wanted.state, count(job.status)
    FROM unnest(ARRAY['queued', 'in_progress', 'suspended']) AS wanted (state)
    LEFT JOIN public.job ON job.status::text = wanted.state
    GROUP BY wanted.state;
END
$body$;

CREATE OR REPLACE FUNCTION flowfleet_metrics.oldest() RETURNS TABLE (oldest_queued_seconds double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $body$
BEGIN
    IF to_regclass('public.job') IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(job.created_timestamp::timestamptz)), 0), 0)::double precision
    FROM public.job WHERE job.status::text = 'queued';
END
$body$;

-- Runs that ended today or yesterday. Each day begins at 0 under the label that the day before yesterday had, which is how a counter
-- begins anew; yesterday's stays for a day, so that what ended right before midnight is still seen. Rows that Langflow's retention
-- removes are older.
CREATE OR REPLACE FUNCTION flowfleet_metrics.ended()
RETURNS TABLE (flow text, kind text, state text, day text, seconds double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $body$
BEGIN
    IF to_regclass('public.job') IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH run AS (
        SELECT job.flow_id::text AS flow,
               CASE WHEN coalesce(job.job_metadata::jsonb ? 'request', false) THEN 'background' ELSE 'request' END AS kind,
               job.status::text AS state,
               CASE mod(floor(extract(epoch FROM job.finished_timestamp::timestamptz) / 86400)::bigint, 2) WHEN 0 THEN 'even' ELSE 'odd' END AS day,
               greatest(extract(epoch FROM job.finished_timestamp::timestamptz - job.created_timestamp::timestamptz), 0)::double precision AS seconds
        FROM public.job
        WHERE job.finished_timestamp >= date_trunc('day', now()) - interval '1 day'
          AND job.status::text IN ('completed', 'failed', 'cancelled', 'timed_out')
          AND coalesce(job.type::text, 'workflow') = 'workflow'
    ), often AS (
        SELECT run.flow FROM run GROUP BY run.flow ORDER BY count(*) DESC, run.flow LIMIT 250
    )
    SELECT CASE WHEN often.flow IS NULL THEN 'other' ELSE run.flow END, run.kind, run.state, run.day, run.seconds
    FROM run LEFT JOIN often ON often.flow = run.flow;
END
$body$;

CREATE OR REPLACE FUNCTION flowfleet_metrics.runs() RETURNS TABLE (flow text, kind text, state text, day text, total bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    WITH ended AS MATERIALIZED (SELECT * FROM flowfleet_metrics.ended()),
         seen AS (SELECT DISTINCT flow, kind FROM ended)
    SELECT seen.flow, seen.kind, states.state, days.day, count(ended.seconds)
    FROM seen
    CROSS JOIN unnest(ARRAY['completed', 'failed', 'cancelled', 'timed_out']) AS states (state)
    CROSS JOIN unnest(ARRAY['even', 'odd']) AS days (day)
    LEFT JOIN ended ON (ended.flow, ended.kind, ended.state, ended.day) = (seen.flow, seen.kind, states.state, days.day)
    GROUP BY seen.flow, seen.kind, states.state, days.day
$body$;

CREATE OR REPLACE FUNCTION flowfleet_metrics.durations()
RETURNS TABLE (flow text, kind text, day text, seconds double precision[], seconds_bucket bigint[], seconds_sum double precision, seconds_count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    WITH bounds AS (SELECT ARRAY[0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600]::double precision[] AS upper),
         ended AS MATERIALIZED (SELECT * FROM flowfleet_metrics.ended()),
         seen AS (SELECT DISTINCT flow, kind FROM ended),
         cells AS (
             SELECT seen.flow, seen.kind, days.day, (SELECT upper FROM bounds) AS upper, ended.seconds
             FROM seen
             CROSS JOIN unnest(ARRAY['even', 'odd']) AS days (day)
             LEFT JOIN ended ON (ended.flow, ended.kind, ended.day) = (seen.flow, seen.kind, days.day)
         )
    SELECT cells.flow, cells.kind, cells.day, cells.upper,
           ARRAY[count(*) FILTER (WHERE cells.seconds <= cells.upper[1]), count(*) FILTER (WHERE cells.seconds <= cells.upper[2]),
                 count(*) FILTER (WHERE cells.seconds <= cells.upper[3]), count(*) FILTER (WHERE cells.seconds <= cells.upper[4]),
                 count(*) FILTER (WHERE cells.seconds <= cells.upper[5]), count(*) FILTER (WHERE cells.seconds <= cells.upper[6]),
                 count(*) FILTER (WHERE cells.seconds <= cells.upper[7]), count(*) FILTER (WHERE cells.seconds <= cells.upper[8]),
                 count(*) FILTER (WHERE cells.seconds <= cells.upper[9]), count(*) FILTER (WHERE cells.seconds <= cells.upper[10]),
                 count(*) FILTER (WHERE cells.seconds <= cells.upper[11]), count(*) FILTER (WHERE cells.seconds <= cells.upper[12]),
                 count(*) FILTER (WHERE cells.seconds <= cells.upper[13])],
           coalesce(sum(cells.seconds), 0)::double precision, count(cells.seconds)
    FROM cells GROUP BY cells.flow, cells.kind, cells.day, cells.upper
$body$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flowfleet_metrics FROM PUBLIC;
