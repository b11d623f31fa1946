--[[
Renews a lease of a map, or makes it. due.lua and clock.lua are prepended.

KEYS  see due.lua
ARGV  1 the name of the map   2 the lease   3 its lease time, 4 its grace time, milliseconds   5 "1" to make it

Reply one of
      {"ALIVE", EPOCH, HOLDERS}   it lives, for the lease time and the grace time from now, and has so many holders
      {"OVER", EPOCH, 0}          it is over, or unknown, or will be when the recovery is over; nothing revives it
      {"OTHER", LEASE, GRACE}   living leases of the map have other times; nothing is done
]]

local name, lease, lease_time, grace_time = ARGV[1], ARGV[2], ARGV[3] + 0, ARGV[4] + 0
local member = '\0lease:' .. lease

local clock = look()
local others = clock and (clock.lease ~= lease_time or clock.grace ~= grace_time)
local from = format('%.0f', LEASES + (others and clock.time >= clock.untl and clock.time + 1 or 0))
if others and redis.call('ZRANGEBYSCORE', due, from, '(+inf', 'LIMIT', 0, 1)[1] then
  -- Nobody else may look at the clock, so that these leases would never be over.
  if clock.moved then redis.call('HSET', records, CLOCK, encode(clock)) end
  return {'OTHER', clock.lease, clock.grace}
end
if not clock then
  local data = replication_id()
  clock = {time = 0, latest = now.ms, untl = 0, epoch = now.us .. data, run = run_id(), data = data}
end
local makes = ARGV[5] == '1' and not redis.call('ZSCORE', due, member)
-- Many nodes renew their leases each second: not each of them has to write the time.
if makes or others or not clock.lease or clock.moved then
  clock.lease, clock.grace = lease_time, grace_time
  redis.call('HSET', records, CLOCK, encode(clock))
  -- A sweep has set this for the server's clock of that time, which may have been set back since.
  redis.call('ZADD', idle, 'LT', format('%.0f', now.ms + grace_time / 2), name)
end
-- A lease of the time before a recovery ends with it: so does what a failover has brought back under it.
local ends, recovers = end_of_lease(clock, lease), clock.time < clock.untl
if not makes and (not ends or recovers and ends <= clock.untl) then return {'OVER', clock.epoch, 0} end
ends = clock.time + lease_time + grace_time
-- A lease that is made in the recovery ends later.
redis.call('ZADD', due, format('%.0f', LEASES + (recovers and math.max(ends, clock.untl + 1) or ends)), member)
if makes then
  -- The empty members keep the sets in existence.
  redis.call('ZADD', due, 'inf', '')
  redis.call('ZADD', entries, 0, '')
end
return {'ALIVE', clock.epoch, redis.call('ZLEXCOUNT', entries, '[\0' .. lease .. '\0', '(\0' .. lease .. '\1')}
