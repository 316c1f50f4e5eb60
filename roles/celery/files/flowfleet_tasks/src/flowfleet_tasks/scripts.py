# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a record's life that have to happen at once or not at all: scripts that Redis runs.

Every script gets the key prefix as its only key. The clock is that of Redis, so hosts need not agree on the time.
"""

from __future__ import annotations

BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

PRELUDE = """
local P = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local final = {succeeded = true, failed = true, cancelled = true, unknown = true}
local buckets = {@BUCKETS@}
local function stamp(number) return string.format('%.6f', number) end
local function record(id) return P .. 'run:' .. id end
local function get(id, field) return redis.call('HGET', record(id), field) or '' end
local function number(id, field) return tonumber(get(id, field)) or 0 end
local function due(id, at) redis.call('ZADD', P .. 'due', stamp(at), id) end
local function turn(id, state)
  local old = get(id, 'state')
  if old == state then return end
  if old ~= '' then redis.call('SREM', P .. 'state:' .. old, id) end
  redis.call('HSET', record(id), 'state', state)
  if not final[state] then redis.call('SADD', P .. 'state:' .. state, id) end
end
local function count(name) redis.call('HINCRBY', P .. 'stats', name, 1) end
local function observe(label, seconds)
  local le = 'inf'
  for _, edge in ipairs(buckets) do
    if seconds <= edge then le = tostring(edge) break end
  end
  redis.call('HINCRBY', P .. 'hist', label .. '|' .. le, 1)
  redis.call('HINCRBYFLOAT', P .. 'hist', label .. '|sum', stamp(seconds))
end
local function finish(id, state, reason, message, result, keep, keep_dead)
  local own = redis.call('HMGET', record(id), 'user', 'queue', 'label', 'started', 'batch')
  turn(id, state)
  redis.call('HSET', record(id), 'ended', stamp(now), 'reason', reason, 'message', message, 'result', result,
    'owner', '', 'lease', '0')
  redis.call('ZREM', P .. 'due', id)
  redis.call('SREM', P .. 'open:' .. own[1], id)
  count('total|' .. own[2] .. '|' .. state)
  if state == 'failed' or state == 'unknown' then
    redis.call('ZADD', P .. 'dead', stamp(now), id)
    count('dead|' .. own[2])
    redis.call('EXPIRE', record(id), keep_dead)
  else
    redis.call('HDEL', record(id), 'sealed')
    redis.call('EXPIRE', record(id), keep)
  end
  local started = tonumber(own[4] or '') or 0
  if started > 0 then observe(own[3] or 'other', now - started) end
  if own[5] and own[5] ~= '' then
    local batch = P .. 'batch:' .. own[5]
    redis.call('HINCRBY', batch, state, 1)
    if redis.call('HINCRBY', batch, 'done', 1) >= (tonumber(redis.call('HGET', batch, 'total')) or 0) then
      redis.call('HSET', batch, 'ended', stamp(now))
      redis.call('EXPIRE', batch, keep_dead)
    end
  end
end
local function owned(id, token)
  return redis.call('EXISTS', record(id)) == 1 and not final[get(id, 'state')] and get(id, 'token') == token
end
""".replace("@BUCKETS@", ", ".join(str(edge) for edge in BUCKETS))

# id, user, pending limit (0: none), idempotency key or "", fingerprint, keep, most labels, seconds to look again,
# then fields and values
CREATE = """
local id, user, most, key, print = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
if redis.call('EXISTS', record(id)) == 1 then return {'exists', id} end
local memory = P .. 'idem:' .. user .. ':' .. key
if key ~= '' then
  local known = redis.call('HMGET', memory, 'id', 'print')
  if known[1] then
    if known[2] ~= print then return {'conflict', known[1]} end
    return {'exists', known[1]}
  end
end
local open = P .. 'open:' .. user
if most > 0 and redis.call('SCARD', open) >= most then return {'limit', ''} end
for i = 9, #ARGV, 2 do redis.call('HSET', record(id), ARGV[i], ARGV[i + 1]) end
local flow, label = get(id, 'flow'), 'other'
local labels = P .. 'labels'
if redis.call('SISMEMBER', labels, flow) == 1 or redis.call('SCARD', labels) < tonumber(ARGV[7]) then
  redis.call('SADD', labels, flow)
  label = flow
end
redis.call('HSET', record(id), 'id', id, 'user', user, 'label', label, 'created', stamp(now), 'token', '0',
  'attempt', '0', 'lease', '0', 'published', '')
turn(id, 'queued')
redis.call('SADD', open, id)
redis.call('ZADD', P .. 'runs:' .. user, stamp(now), id)
due(id, now + tonumber(ARGV[8]))
if key ~= '' then
  redis.call('HSET', memory, 'id', id, 'print', print)
  redis.call('EXPIRE', memory, ARGV[6])
end
return {'created', id}
"""

# id, seconds to look again
PUBLISHED = """
local id = ARGV[1]
if redis.call('EXISTS', record(id)) == 0 or final[get(id, 'state')] then return 0 end
redis.call('HSET', record(id), 'published', stamp(now))
if number(id, 'lease') <= now then due(id, now + tonumber(ARGV[2])) end
return 1
"""

# id, owner, lease, seconds between two starts in the queue, keep, keep_dead, most workers that a run may lose
CLAIM = """
local id, owner, lease, gap = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('EXISTS', record(id)) == 0 then return {'gone'} end
local state = get(id, 'state')
if final[state] then return {'ended', state} end
if number(id, 'lease') > now then return {'busy', get(id, 'lease'), stamp(now)} end
if get(id, 'cancel') == '1' and get(id, 'sent') == '' then
  finish(id, 'cancelled', 'cancelled', 'Cancelled before it began.', '', ARGV[5], ARGV[6])
  return {'ended', 'cancelled'}
end
if state == 'waiting' and number(id, 'wake') > now + 0.05 then return {'later', get(id, 'wake')} end
if gap > 0 and get(id, 'slot') == '' then
  local rate = P .. 'rate:' .. get(id, 'queue')
  local slot = math.max(tonumber(redis.call('GET', rate) or '') or 0, now)
  redis.call('SET', rate, stamp(slot + gap), 'EX', math.ceil(slot + gap - now) + 60)
  redis.call('HSET', record(id), 'slot', stamp(slot))
  if slot > now + 0.05 then
    turn(id, 'waiting')
    redis.call('HSET', record(id), 'wake', stamp(slot))
    due(id, slot)
    return {'later', stamp(slot)}
  end
end
if get(id, 'owner') ~= '' and redis.call('HINCRBY', record(id), 'losses', 1) > tonumber(ARGV[7]) then
  finish(id, 'unknown', 'worker_lost', 'Its workers died again and again.', '', ARGV[5], ARGV[6])
  return {'ended', 'unknown', 'worker_lost'}
end
local token = redis.call('HINCRBY', record(id), 'token', 1)
turn(id, 'running')
redis.call('HSET', record(id), 'owner', owner, 'lease', stamp(now + lease))
if get(id, 'started') == '' then
  redis.call('HSET', record(id), 'started', stamp(now))
end
due(id, now + lease)
local result = redis.call('HGETALL', record(id))
table.insert(result, 1, stamp(now))
table.insert(result, 1, tostring(token))
table.insert(result, 1, 'run')
return result
"""

# id, token, lease -> whether it is still ours, whether someone cancelled
HOLD = """
local id, lease = ARGV[1], tonumber(ARGV[3])
if not owned(id, ARGV[2]) then return {'fenced', ''} end
redis.call('HSET', record(id), 'lease', stamp(now + lease))
due(id, now + lease)
return {'ours', get(id, 'cancel')}
"""

# id, token, field, value...
MARK = """
local id = ARGV[1]
if not owned(id, ARGV[2]) then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', record(id), ARGV[i], ARGV[i + 1]) end
return 1
"""

# id, token, seconds to look again: the run goes on elsewhere
RELEASE = """
local id = ARGV[1]
if not owned(id, ARGV[2]) then return 0 end
redis.call('HSET', record(id), 'owner', '', 'lease', '0', 'published', '')
due(id, now + tonumber(ARGV[3]))
return 1
"""

# id, token, seconds to wait, reason, message, "1" if an execution failed and another one is wanted, else ""
RETRY = """
local id, delay = ARGV[1], tonumber(ARGV[3])
if not owned(id, ARGV[2]) then return 0 end
turn(id, 'waiting')
redis.call('HINCRBY', record(id), 'attempt', 1)
redis.call('HSET', record(id), 'owner', '', 'lease', '0', 'wake', stamp(now + delay), 'reason', ARGV[4],
  'message', ARGV[5], 'published', '')
if ARGV[6] == '1' then
  redis.call('HSET', record(id), 'sent', '', 'job', '', 'began', '')
  redis.call('HINCRBY', record(id), 'failures', 1)
end
due(id, now + delay)
count('retries|' .. get(id, 'queue'))
return 1
"""

# id, token, state, reason, message, sealed result, keep, keep_dead
FINISH = """
local id = ARGV[1]
if redis.call('EXISTS', record(id)) == 0 then return 'gone' end
if final[get(id, 'state')] then return 'ended' end
if get(id, 'token') ~= ARGV[2] then return 'fenced' end
finish(id, ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
return 'ok'
"""

# id, user or "" for anyone, keep, keep_dead
CANCEL = """
local id = ARGV[1]
if redis.call('EXISTS', record(id)) == 0 then return {'gone', ''} end
if ARGV[2] ~= '' and get(id, 'user') ~= ARGV[2] then return {'gone', ''} end
local state = get(id, 'state')
if final[state] then return {'ended', state} end
if get(id, 'cancel') == '1' then return {'again', state} end
local held = number(id, 'lease') > now
if get(id, 'sent') == '' and not held then
  finish(id, 'cancelled', 'cancelled', 'Cancelled before it began.', '', ARGV[3], ARGV[4])
  return {'done', 'cancelled'}
end
if get(id, 'mode') == 'held' then return {'held', state} end
redis.call('HSET', record(id), 'cancel', '1')
if not held then
  redis.call('HSET', record(id), 'wake', '0')
  due(id, now)
end
return {'asked', state}
"""

# id, seconds to look again, "1" to revive what lost its worker
# -> what to do: publish, check (is its message still there?), nothing
LOOK = """
local id, again = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', record(id)) == 0 or final[get(id, 'state')] then
  redis.call('ZREM', P .. 'due', id)
  return {'nothing'}
end
local at = tonumber(redis.call('ZSCORE', P .. 'due', id) or '') or 0
if at > now then return {'nothing'} end
local state = get(id, 'state')
if state == 'waiting' then
  due(id, now + 10)
  turn(id, 'queued')
  return {'publish', 'due'}
end
if ARGV[3] ~= '1' then return {'nothing'} end
due(id, now + again)
if state == 'running' then
  if number(id, 'lease') > now then return {'nothing'} end
  count('revived|' .. get(id, 'queue'))
  due(id, now + 10)
  return {'publish', 'revived'}
end
if get(id, 'published') == '' then
  due(id, now + 10)
  return {'publish', 'unsent'}
end
return {'check', get(id, 'published'), get(id, 'queue')}
"""
