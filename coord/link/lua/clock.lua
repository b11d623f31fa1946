--[[
The lease clock of a map. due.lua is prepended.

It follows the server's clock, but never goes back, and goes on by at most three quarters of the grace time between two
looks: so neither downtime, nor a stopped server, nor a clock that is set ahead can end the leases of nodes that live.

The field "\0clock" of the records' hash is "TIME LATEST UNTIL LEASE GRACE EPOCH RUN DATA", times in milliseconds:
      TIME          of this clock, at the last look
      LATEST        the latest time of the server's clock that was seen
      UNTIL         the time of this clock at which the recovery ends: until then, no lease does
      LEASE, GRACE  the lease time and the grace time of the map
      EPOCH         names the time since the last recovery began
      RUN, DATA     the run id and the replication id of the server at the last look (16 digits of each)
]]

local time = redis.call('TIME')
local now = {us = format('%.0f', time[1] * 1000000 + time[2]), ms = time[1] * 1000 + math.floor(time[2] / 1000)}
local CLOCK = '\0clock'

local function encode(clock)
  return format('%.0f %.0f %.0f %.0f %.0f %s %s %s', clock.time, clock.latest, clock.untl, clock.lease, clock.grace,
    clock.epoch, clock.run, clock.data)
end

-- Returns the replication id of the server, and the text that tells more. A plain search takes a tenth of the time of a
-- pattern, and every renewal makes one.
local function replication_id()
  local info = redis.call('INFO', 'replication')
  local _, at = find(info, 'master_replid:', 1, true)
  return at and sub(info, at + 1, at + 16) or '0', info
end

local function run_id()
  return sub(match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '0', 1, 16)
end

-- Begins a recovery if another server process answers, or has other data, than at the last look.
local function recover(clock)
  local data, info = replication_id()
  if data == clock.data then return end
  -- Whether its data were no other server's before.
  local run, fresh = run_id(), find(info, 'master_replid2:0+%s')
  -- The replication id alone changes when the first replica comes, or an hour after the last one left.
  if run ~= clock.run or not fresh then
    clock.untl, clock.epoch = clock.time + clock.lease + clock.grace, now.us .. data
  end
  clock.run, clock.data, clock.moved = run, data, true
end

-- Returns the clock of the map after a look at it, and the milliseconds since the last look: nil if it has none. If it
-- has not `moved` much, it need not be written.
local function look()
  local time, latest, untl, lease, grace, epoch, run, data =
    match(redis.call('HGET', records, CLOCK) or '', '^(%d+) (%d+) (%d+) (%d+) (%d+) (%w+) (%w+) (%w+)$')
  if not time then return end
  local clock = {time = time + 0, latest = latest + 0, untl = untl + 0, lease = lease + 0, grace = grace + 0,
    epoch = epoch, run = run, data = data}
  local most, passed = 0.75 * clock.grace, math.max(now.ms - clock.latest, 0)
  clock.time = clock.time + math.floor(math.min(passed, most))
  -- If the server's clock was set back, this one goes on once that is past where it was; unless that would take long.
  clock.moved = passed > 200 or clock.latest - now.ms > most
  if now.ms > clock.latest or clock.moved then clock.latest = now.ms end
  recover(clock)
  return clock, passed
end

-- Returns the end of a lease on the lease clock, while it lives; nil if it is over, or unknown.
local function end_of_lease(clock, lease)
  local score = redis.call('ZSCORE', due, '\0lease:' .. lease)
  local at = score and score - LEASES
  return at and (clock.time < at or clock.time < clock.untl) and at or nil
end
