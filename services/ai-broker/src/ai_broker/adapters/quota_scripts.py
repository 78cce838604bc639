"""
What Redis runs, each script whole or not at all, by the server's own clock.

The keys of one call belong to one tenant and share its hash tag, so on a cluster they
are in one slot. A rate is a string, the microsecond until which it is taken; places are
a sorted set of holders by the microsecond that they lapse at. Numbers are written by
``%d``: Lua's own way would round microseconds since 1970.
"""

from typing import Final

NOW: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function write_rate(key, till)
  local ms = math.ceil((till - now) / 1000) + 1
  redis.call('SET', key, string.format('%d', till), 'PX', string.format('%d', ms))
end
"""

ADMIT: Final = (
    NOW
    + """
-- ARGV: holder, how long a place lasts, the window, the wait for a place; then for each
-- key its number of places and 0, or 0 and how much time the call takes of the rate.
-- Answers the place of the limit that is in the way the longest (0: none was, and all
-- have counted), that wait, and what is taken of each.
local holder, lasts, window, busy = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local taken, refused, longest = {}, 0, 0
for i, key in ipairs(KEYS) do
  local places, spread = tonumber(ARGV[3 + 2*i]), tonumber(ARGV[4 + 2*i])
  local wait = 0
  if places > 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%d', now))
    taken[i] = redis.call('ZCARD', key)
    if taken[i] >= places then wait = tonumber(busy) end
  else
    taken[i] = math.max(0, tonumber(redis.call('GET', key) or '0') - now)
    wait = math.max(0, taken[i] + math.min(spread - tonumber(window), 0))
  end
  if wait > longest then refused, longest = i, wait end
end
if refused == 0 then
  for i, key in ipairs(KEYS) do
    local places, spread = tonumber(ARGV[3 + 2*i]), tonumber(ARGV[4 + 2*i])
    if places > 0 then
      redis.call('ZADD', key, string.format('%d', now + lasts), holder)
      redis.call('PEXPIRE', key, string.format('%d', math.ceil(lasts / 1000) + 1))
      taken[i] = taken[i] + 1
    else
      taken[i] = taken[i] + spread
      write_rate(key, now + taken[i])
    end
  end
end
return {refused, longest, unpack(taken)}
"""
)

SETTLE: Final = (
    NOW
    + """
-- ARGV: holder; then for each key what to add to the time that is taken of the rate, or
-- an empty text for places. What is given back may leave a rate below now: it is free.
for i, key in ipairs(KEYS) do
  local more = ARGV[1 + i]
  if more == '' then
    redis.call('ZREM', key, ARGV[1])
  else
    local till = math.max(now, tonumber(redis.call('GET', key) or '0')) + tonumber(more)
    if till > now then write_rate(key, till) else redis.call('DEL', key) end
  end
end
return 0
"""
)

KEEP: Final = (
    NOW
    + """
-- ARGV: how long a place lasts; then for each key the holder of a place in it. A place
-- that has lapsed or was freed meanwhile stays so.
local lasts = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', string.format('%d', now + lasts), ARGV[1 + i])
  redis.call('PEXPIRE', key, string.format('%d', math.ceil(lasts / 1000) + 1))
end
return 0
"""
)
