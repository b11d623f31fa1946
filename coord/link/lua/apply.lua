--[[
Applies a batch of calls of one node to one map, in one step. due.lua is prepended.

KEYS  see due.lua
ARGV  1 the settings, separated by spaces:
          flags: "-" for none, "n" for one named call (`once=`)
          number of this batch, and that of the batch before it if that is not answered yet, else 0
          newest revision that the caller has seen: generation, number
          incarnation of the node (for a named call: the one made from the name), and the node's name
          doorbell channel (the channel of a key is this, a colon, and the key)
          lines of history to keep
          retention of pending keys' records, milliseconds
          life of the outcome, milliseconds
          length above which the history leaves a value out
      2 a letter for each call (2,000 at most): F fires, X fails, P pulses, R resets; T fires with a TTL, M moves the
      end of an event that has a TTL, E ends it if its end has passed; H adds a holder, U removes one (withdraws), D
      removes one if its lease is over, V removes all and resets (evicts); C counts; L adds a holder of a lock
      then the key of each call; then the data of each (JSON; for T the TTL in milliseconds and a newline before it; for
      M the TTL; for E the "GENERATION,NUMBER" of the record to end, for R of the one to reset, or nothing; for H
      "HOLDER LEASE NEED" and a newline before it, for L "HOLDER LEASE GENERATION,NUMBER", with the token that it was
      granted, or 0,0; for U and D "HOLDER"; for V "-"; for C "N,GOAL,NAME": how much to add, the goal or 0, and the
      name that counts once, or nothing); then, if not all calls are made by the node itself, the names of their nodes,
      with commas

Reply "GENERATION NUMBER TIME\n": NUMBER is the last one used before the first change, TIME in microseconds.
Then, for each call, one of
      +            applied, under the next number
      *LEN:RECORD  applied, under the next number, as RECORD (a reset, an end, a TTL; a named call)
      ^LEN:RECORD  the end of RECORD, the current one, was moved; it has no new number
      =LEN:RECORD  nothing changed: RECORD is the current one
      ;LEN:RECORD  nothing changed: RECORD is the current one, an event whose end has passed
      -            nothing changed: there is no record
      &            counted, in the change of the count of that key before it
      !LEN:ERROR   not applied
with a ~ before it if a number was used for a change that had to be undone, and before *, = and & of a count what the
counter stands at after it.

A batch that was applied before, if it is the node's last one or the one before, gets the same reply with a = before it.
The outcomes are remembered without values: a RECORD has its value if it is still the current one, else it ends with its
header (as it does if the reply would be large).

Errors, in place of the reply, mean that nothing was applied. They begin with
      STALE   a later batch was applied
      EARLY   the batch before is not applied
      REUSED  the name was given to another call
      NEWER   the data has a later layout

Some fields of the hash are not records; no key begins as they do:
      \0head              "LAYOUT GENERATION NUMBER PROCESS DATA GENERATION NUMBER": the revision of the newest line,
                          the run id and the replication id of the server that wrote it (16 digits of each), and the
                          revision that its generation follows; then the last number used, if that is higher
      \0call:INCARNATION:0, :1  "NUMBER\nREPLY": the node's last batch with an even or odd number, and its outcome
      \0holder:HOLDER     "SEQUENCE LEASE NEED NODE KEY\nVALUE": a holder of a key; its place among them, and how many
                          the key needs to be latched; 0 for a lock, which only one of them owns
      \0clock             see clock.lua

A record is a header and a value: '["KIND",[GENERATION,NUMBER],TIME,"NODE"]\nVALUE'. The header may have a fifth
element, a JSON object: its "wake" is the last wake, which a reset or an end keeps; its "ttl" is the TTL in milliseconds
with which it was fired: its end is in the due set. Its "held" is the holder whose value it has, its "since" the
revision at which the key became latched, if that was an earlier one. A lock that somebody owns has a "token", the
revision of the grant. A counter has a "count" and, once one was given, a
"goal"; it is "counted" until it reaches that, and then "fired" with the count as its value. While it is counted, its
wake and value are those of the event before it. A reset or an end keeps all other members.

The lines of one batch are one entry of the stream, under the number of the last: key and record in turn. If the first
does not follow the number before its own, an empty key with the "GENERATION NUMBER" that it follows comes first.
]]

-- A lone call finds little of this in the processor's caches, and pays for each function, table and command that it
-- uses. So the usual path uses few, and numbers that need no arithmetic stay text.

local LAYOUT, NOTHING, DAY = '2', '0\n', 86400000000
-- What stands for the record of a key that has none.
local NONE = '["reset",[0,0],0,"-"]\n'
-- The highest count, 2^53 - 1: doubles are exact up to it, and one more is not taken for it.
local HIGHEST = 9007199254740991
-- The kinds of records, by the byte of the call's letter.
local FIRE, PULSE, RESET, TIMED, MOVE, END, HOLD, WITHDRAW, LOSE, EVICT = 70, 80, 82, 84, 77, 69, 72, 85, 68, 86
local COUNT, LOCK = 67, 76
local KINDS = {
  [FIRE] = 'fired', [88] = 'failed', [PULSE] = 'pulsed', [RESET] = 'reset', [TIMED] = 'fired', [END] = 'expired',
  [WITHDRAW] = 'withdrawn', [LOSE] = 'expired', [EVICT] = 'reset', [COUNT] = 'counted', [LOCK] = 'fired',
}

-- == Settings ==
-- Invalid arguments are refused before anything is written: a later error would leave the batch half applied.

local SETTINGS = '^([-n]) (%d+) (%d+) (%d+) (%d+) (%w+) ([%w._-]+) (%S+) ([1-9]%d*) (%d+) ([1-9]%d*) (%d+)$'
local flags, called, before, generation_seen, number_seen, incarnation, node, doorbell, lines, retention, life,
  large = match(ARGV[1] or '', SETTINGS)
local letters = ARGV[2] or ''
local calls = #letters
local nodes = ARGV[3 + 2 * calls]
local named = flags == 'n'
if not flags or #called > 16 or #before > 16 or #generation_seen > 16 or #number_seen > 16 or #lines > 16
  or #retention > 16 or #life > 16 or #large > 16 or calls > 2000 or #ARGV ~= 2 + 2 * calls + (nodes and 1 or 0)
  or find(letters, '[^FXPRTMEHUDVCL]') or (nodes and find(nodes, '[^%w._,-]')) or (named and calls ~= 1) then
  return redis.error_reply('ERR the settings given to apply.lua are not what they should be')
end
-- Whether a text has control characters of ASCII. In a long one, to search for each, by memchr, takes a fifth of the
-- time of a pattern.
local function has_controls(text)
  if #text < 1000 then return not find(text, '^%C*$') end
  for code = 0, 32 do
    if find(text, string.char(code == 32 and 127 or code), 1, true) then return true end
  end
end
-- Keys have none, C1 in UTF-8 included, as they are shown on terminals. All are checked at once.
local keys = calls == 1 and ARGV[3] or table.concat(ARGV, '', 3, 2 + calls)
if has_controls(keys) or find(keys, '\194', 1, true) and find(keys, '\194[\128-\159]') then
  return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
end

-- == Current state ==

local number = called + 0
local CALL, OTHER = '\0call:' .. incarnation .. ':0', '\0call:' .. incarnation .. ':1'
if number % 2 == 1 then CALL, OTHER = OTHER, CALL end
-- Whether there are other calls than fires, failures and pulses.
local special = find(letters, '[^FXP]')
local found = try('HMGET', records, HEAD, CALL, OTHER, unpack(ARGV, 3, 2 + calls))
if found.err then return redis.error_reply(failure(found, records)) end
local head, last = found[1], found[2]

local generation, newest, process, data, follows, spent = '0', '0', '-', '', '0 0', ''
if head then
  generation, newest, process, data, follows, spent =
    match(head, '^[12] (%d+) (%d+) (-?%w*) (%w+) (%d+ %d+) ?(%d*)$')
  if not generation then
    local later = (match(head, '^(%d+) ') or '0') + 0 > LAYOUT + 0
    return redis.error_reply(later and 'NEWER ' .. records .. ' was written by a newer coord'
      or 'CORRUPT the head of ' .. records .. ' is not one of coord\'s')
  end
end

-- == Repetitions ==
-- Return the remembered outcome, with the values of the records that are still current. Of these at most 256 KiB: the
-- reply may have been lost because it exceeded the server's limits. What is not an outcome is returned as it is.

local done, at = match(last or NOTHING, '^(%d+)\n()')
if done == called then
  -- A write, so that a WAIT after the repetition has something to wait for.
  try('HSET', records, CALL, last)
  local budget, parts, begin = 262144, {'=' .. (match(last, '^%d+ %d+ %d+\n', at) or '')}, at
  at = at + #parts[1] - 1
  for i = 1, calls do
    local mark, next = match(last, '^(~*%d*[-+*=;!^&])()', at)
    if not mark then return '=' .. sub(last, begin) end
    at = next
    if find(mark, '[*=;!^]') then
      local length, from = match(last, '^(%d+):()', at)
      if not length then return '=' .. sub(last, begin) end
      at = from + length
      local text, current = sub(last, from, at - 1), found[i + 3]
      if current and #current <= budget and sub(current, 1, #text + 1) == text .. '\n' then
        budget, text = budget - #current, current
      end
      mark = mark .. #text .. ':' .. text
    end
    parts[i + 1] = mark
  end
  return table.concat(parts)
end
local latest, other = (done or 0) + 0, (match(found[3] or NOTHING, '^(%d+)\n') or 0) + 0
if other > latest then latest = other end
if named and latest > 0 then
  return redis.error_reply('REUSED the name was given to another call')
end
if latest > number then
  return redis.error_reply('STALE call ' .. called .. ', a later one was applied')
end
if before ~= '0' and before + 0 ~= latest then
  return redis.error_reply('EARLY call ' .. called .. ', the one before it was not applied')
end

-- == Generation ==
-- A new generation begins if the data was lost, if its replication id has changed, or if the caller has seen a later
-- revision. So no revision is used twice, for changes that were lost or that another server wrote. Every batch reads
-- INFO: a primary that was a replica for a while is the same process, and connections to it were not lost. An undone
-- change has used its number, as the stream takes no number twice.

local time = redis.call('TIME')
local now = time[1] .. format('%06d', time[2])
local milliseconds = sub(now, 1, -4)
-- The revision that the next line follows, if that is not the number before its own.
local after, begins
if spent == '' then spent = newest elseif spent + 0 > newest + 0 then after = generation .. ' ' .. newest end

local info = try('INFO', 'replication')
if failure(info, 'INFO') then return redis.error_reply(failure(info, 'INFO')) end
-- A plain search takes a tenth of the time of a pattern.
local _, at_id = find(info, 'master_replid:', 1, true)
local actual = at_id and sub(info, at_id + 1, at_id + 16) or ''
if not find(actual, '^%x') then return redis.error_reply('ERR INFO does not tell the master_replid of this server') end
local ahead = generation_seen + 0 - generation
if actual ~= data or ahead > 0 or (ahead == 0 and number_seen + 0 > spent + 0) then
  local logged, stream = 0, try('XINFO', 'STREAM', log)
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then logged = match(stream[i + 1], '^%d+') + 0 end
  end
  -- Not the clock alone: it may have been set back, or differ from the last server's. The microseconds tell apart two
  -- servers that begin a generation after the same one, if the data of the first was lost. The caller's generation
  -- counts up to a day ahead of the clock.
  local highest = math.max(generation + 0, math.min(generation_seen + 0, now + DAY), logged)
  follows = generation .. ' ' .. newest
  generation = format('%.0f', now + 0 > highest and now + 0 or highest + 1 + time[2])
  data, after, begins = actual, follows, true
end
-- If the map is not in the idle set, or was written under another process, this batch registers it with its head.
local registers = begins or process == '-'
if registers then
  local server = try('INFO', 'server')
  process = type(server) == 'string' and sub(match(server, 'run_id:(%x+)') or '0', 1, 16) or '0'
end

-- == Transitions ==
-- Decide everything first, and then write: one command writes the records of all calls, the head and the outcome, as
-- they are if nothing is refused.

local first, count, text, largest, kinds = spent + 0, spent + 0, spent, large + 0, {byte(letters, 1, calls)}
-- '%d' is several times as fast as '%.0f', but overflows here if a C long has 32 bits.
local decimal = count + calls < 2147483648 and '%d' or '%.0f'
local record_start, record_end = '",[' .. generation .. ',', '],' .. now .. ',"' .. node .. '"'
local current, made, outcomes, written, w = {}, {}, {}, {CALL, '', HEAD, '', '', ''}, 4
-- The records in the outcomes; the entry of the stream, if it differs from the arguments of HSET from the fifth on; the
-- keys that are pending now, and those that no longer are.
local shown, entry, pending, ended = nil, after and {'', after}, nil, nil

-- The ends of events that have a TTL, in milliseconds, by key, as this batch leaves them; what the due set had before;
-- and the earliest end that this batch sets.
local ends, was, soonest
-- Of each call, the commands that change what belongs to its key beside the record. They run last.
local commands
local end_of, is_over, set_end

-- Notes when to forget the record of a key that has changed, or when its event ends.
local function note_due(kind, key, ttl)
  if ttl then
    set_end(key, ttl)
  elseif kind ~= FIRE and kind ~= 88 then
    pending = pending or {}
    pending[#pending + 1], pending[#pending + 2] = format('%.0f', milliseconds + retention), key
  else
    ended = ended or {}
    ended[key] = true
    return
  end
  if ended then ended[key] = nil end
end

local CORRUPT = '!52:CORRUPT the record that stands is not one of coord\'s'
local COUNTER = '!35:KIND it is a counter; reset ends it'
local LOCKED = '!39:KIND it is a lock, which somebody holds'
-- Whether all there is to do is to write a first record.
local bare = calls == 1 and not special and not found[4]
-- The lease clock, if a record may end: a map without one has no holders.
local clock = (special or not bare and find(letters, 'P', 1, true) and (calls > 1 or find(found[4], '^%["f')))
  and try('HGET', records, '\0clock')
local changes_holders, counts = special and find(letters, '[HUDVL]'), special and find(letters, 'C', 1, true)

-- == Records ==

local parsed, others_of, pending_tail, no_event, refusal

if not bare then
  -- Returns a record's kind, its revision, its further members as they stand in the header, and where its value begins;
  -- nil if it is not one of coord's.
  parsed = function(record)
    local word, revision, tail, from = match(record, '^%["(%l+)",%[(%d+,%d+)%],%d+,"[%w._-]+"([^\n]*)%]\n()')
    local known = word == 'fired' or word == 'failed' or word == 'pulsed' or word == 'reset' or word == 'expired'
      or word == 'withdrawn' or word == 'counted' and find(tail, '"count":%d')
    if known and (tail == '' or find(tail, '^,{".+}$')) then return word, revision, tail, from end
  end

  -- Returns the members of a record that its successor keeps, and the end of their object.
  others_of = function(tail)
    if tail == '' then return '}' end
    local others = gsub(',' .. sub(tail, 3), ',"ttl":%d+', '')
    if not find(others, ',"[hstcg]') then return others end
    others = gsub(gsub(gsub(others, ',"held":"[^"]*"', ''), ',"since":%[[%d,]*%]', ''), ',"token":%[[%d,]*%]', '')
    return (gsub(gsub(others, ',"count":%d+', ''), ',"goal":%d+', ''))
  end

  -- Returns the members of a pending record that follows a latched one: it keeps the wake.
  pending_tail = function(word, revision, tail)
    return ',{"wake":["' .. word .. '",' .. revision .. ']' .. others_of(tail)
  end

  -- Returns the refusal of a call for an event, if a record with this tail is none.
  no_event = function(tail)
    return tail ~= '' and (find(tail, '"count":%d') and COUNTER or find(tail, '"token":[', 1, true) and LOCKED)
  end

  -- Returns the outcome of a call that is refused.
  refusal = function(text)
    return '!' .. #text .. ':' .. text
  end

  -- Returns the end of an event that has a TTL: a past time if it is not in the due set, no end if that cannot be read.
  end_of = function(key)
    ends, was = ends or {}, was or {}
    if not ends[key] then
      local score = try('ZSCORE', due, key)
      was[key] = type(score) == 'string' and score or nil
      ends[key] = type(score) == 'table' and math.huge or (was[key] or 0) - LATER
    end
    return ends[key]
  end

  -- Returns whether a record with this tail is an event whose end has passed.
  is_over = function(key, tail)
    return find(tail, '"ttl":%d') and end_of(key) <= milliseconds + 0
  end

  -- Has an event end so many milliseconds from now.
  set_end = function(key, ttl)
    local at = end_of(key) and milliseconds + ttl
    ends[key], soonest, pending = at, math.min(soonest or at, at), pending or {}
    pending[#pending + 1], pending[#pending + 2] = format('%.0f', LATER + at), key
  end
end

-- == Decisions ==

local decide, take_over, forget_names

if not bare then
  -- Returns what `decide` does for a key that would be pending now, with these members and this value.
  local function end_record(key, tail, revision, members, value)
    if take_over then return take_over(key, tail, revision, members, value) end
    return nil, members, value
  end

  -- Has the names forgotten that have counted on a key.
  forget_names = function(i, key)
    commands = commands or {}
    commands[i] = {{'ZREMRANGEBYLEX', entries, '[' .. key .. '\0who\0', '(' .. key .. '\0who\1'}}
  end

  -- Decides on a call for a key that has a record. Returns the outcome if nothing changes; else nil, the members of the
  -- header, the value, and if they are not the call's own the kind and the node.
  decide = function(kind, key, old, value, ttl, i)
    local word, revision, tail, from = parsed(old)
    if not word then
      -- A reset repairs the key.
      if kind == RESET and value == '' then return end_record(key, '', nil, '', '') end
      return CORRUPT
    end
    local latched, wrong = word == 'fired' or word == 'failed', no_event(tail)
    local counter = wrong == COUNTER
    if wrong and kind ~= RESET and kind ~= END then return wrong end
    local timed = latched and find(tail, '"ttl":%d')
    local over = timed and is_over(key, tail)
    if ttl and timed and not over then
      -- To fire again makes the end later, never earlier.
      if kind == MOVE or milliseconds + ttl > end_of(key) then set_end(key, ttl) end
      return kind == MOVE and '^' or '='
    end
    if kind == MOVE then return over and ';' or '=' end
    if kind ~= RESET and kind ~= END then
      if latched and kind == PULSE then return end_record(key, tail, not over and revision, '', value) end
      -- An event whose end has passed does not stand in the way of the next.
      return latched and not over and '=', '', value
    end
    if not (latched or counter) or value ~= '' and value ~= revision or kind == END and not over then
      return over and ';' or '='
    end
    if counter then forget_names(i, key) end
    -- Keep the last wake, for waiters that were disconnected when the key was fired.
    local members = latched and pending_tail(word, revision, tail)
      or gsub(',{' .. sub(others_of(tail), 2), '^,{$', '')
    return end_record(key, tail, latched and not over and revision, members, sub(old, from))
  end
end

-- == Holders ==
-- What a batch changes in them is noted, and written once no call can be refused any more.

-- The holders that this batch has read or changed: false if it is none, or none any more. Of each key, the holders that
-- it has added, in order, and the number of those that it has removed.
local holders, added, removed, unreadable
local holder_of, first_that, oldest, size

if clock or changes_holders then
  holders, added, removed, commands = {}, {}, {}, commands or {}

  -- Returns a holder by its name; false if there is none.
  holder_of = function(name)
    if holders[name] == nil then
      local sequence, lease, need, by, key, value =
        match(try('HGET', records, '\0holder:' .. name) or '', '^(%d+) (%S+) (%d+) (%S+) ([^\n]+)\n(.*)$')
      holders[name] = sequence and
        {name = name, sequence = sequence, lease = lease, need = need + 0, node = by, key = key, value = value}
    end
    return holders[name]
  end

  -- Returns the oldest of the first `most` holders of a key that `fits`; nil if there is none.
  first_that = function(key, most, fits)
    local limit = most + (removed[key] or 0)
    local names = try('ZRANGEBYLEX', entries, '[' .. key .. '\0', '(' .. key .. '\0:', 'LIMIT', 0, limit)
    unreadable = unreadable or failure(names, entries)
    for _, entry in ipairs(names) do
      local holder = holder_of(match(entry, '[^%z]*$'))
      if holder and fits(holder) then return holder end
    end
    for _, name in ipairs(added[key] or {}) do
      if holders[name] and fits(holders[name]) then return holders[name] end
    end
  end

  -- Returns the oldest holder of a key; nil if it has none.
  oldest = function(key)
    return first_that(key, 2, function() return true end)
  end

  -- Returns the number of a key's holders.
  size = function(key)
    local stored = try('ZLEXCOUNT', entries, '[' .. key .. '\0', '(' .. key .. '\0:')
    return (type(stored) == 'number' and stored or 0) + #(added[key] or {}) - (removed[key] or 0)
  end
end

-- == Passing ==

local alive, recovering, held_tail, successor

if clock or changes_holders then
  unreadable = failure(clock, records)
  local looked, untl, history = match(not unreadable and clock or '', '^(%d+) %d+ (%d+) %d+ %d+ %w+ %w+ (%w+)$')

  -- Returns whether this is a recovery, or one that no look at the lease clock has noticed yet.
  recovering = function()
    return not looked or looked + 0 < untl + 0 or history ~= actual
  end

  -- Returns whether a lease lives, as of the last look at the lease clock.
  alive = function(lease)
    local score = try('ZSCORE', due, '\0lease:' .. lease)
    return looked and type(score) == 'string' and (looked + 0 < score - LEASES or looked + 0 < untl + 0)
  end

  -- Returns the members of the header of a key that is held; if it was latched before, by a record with this tail. The
  -- token of a lock is the revision at which it is granted.
  held_tail = function(holder, tail, revision)
    local members = ',{"held":"' .. holder.name .. '"'
    if holder.need == 0 then
      members = members .. ',"token":[' .. (holder.token or generation .. ',' .. format(decimal, count + 1)) .. ']'
    end
    if not revision then return members .. '}' end
    local since = match(tail, '"since":%[([%d,]*)%]') or revision
    return members .. ',"since":[' .. since .. ']' .. others_of(tail)
  end

  -- Returns the holder to whom a key passes that would be pending now: of an event the oldest, if enough hold it; of a
  -- lock the oldest that lives, but nobody in a recovery, as the server may have lost a grant.
  successor = function(key)
    local first = oldest(key)
    if not first or size(key) < first.need then return end
    if first.need > 0 then return first end
    return not recovering() and first_that(key, 64, function(holder) return alive(holder.lease) end) or nil
  end

  -- Has its successor take over a key that would be pending now, with these members and this value; returns what
  -- `decide` does.
  take_over = function(key, tail, revision, members, value)
    if find(tail, '"held":"', 1, true) then return '=' end
    local next = successor(key)
    if not next then return nil, members, value end
    return nil, held_tail(next, tail, revision), next.value, FIRE, next.node
  end
end

-- == Changes of holders ==

local change, add, remove

if changes_holders then
  -- Notes a command of a call.
  change = function(i, ...)
    commands[i] = commands[i] or {}
    table.insert(commands[i], {...})
  end

  -- Adds a holder, behind all others of its key.
  add = function(i, holder)
    local key, name = holder.key, holder.name
    local last = try('ZREVRANGEBYLEX', entries, '(' .. key .. '\0:', '[' .. key .. '\0', 'LIMIT', 0, 1)[1]
    last = math.max(now - 1, last and match(last, '%z(%d+)%z') or 0) + #(added[key] or {})
    holder.sequence = format('%016.0f', last + 1)
    holders[name], added[key] = holder, added[key] or {}
    table.insert(added[key], name)
    local place = key .. '\0' .. holder.sequence .. '\0' .. name
    change(i, 'ZADD', entries, 0, place, 0, '\0' .. holder.lease .. '\0' .. name)
  end

  -- Removes a holder.
  remove = function(i, holder)
    local key, name = holder.key, holder.name
    holders[name], removed[key] = false, (removed[key] or 0) + 1
    local under = '\0' .. holder.lease
    change(i, 'ZREM', entries, key .. '\0' .. holder.sequence .. '\0' .. name, under .. '\0' .. name)
    if holder.need == 0 then change(i, 'ZREM', entries, under .. '\1' .. name) end
    change(i, 'HDEL', records, '\0holder:' .. name)
  end
end

-- == Joining ==

local bind, refused

if changes_holders then
  local function write(i, holder)
    local words = {holder.sequence, holder.lease, holder.need, holder.node, holder.key}
    change(i, 'HSET', records, '\0holder:' .. holder.name, table.concat(words, ' ') .. '\n' .. holder.value)
  end

  -- Adds a holder, or puts one that is known under another lease.
  bind = function(i, holder, lease)
    if not holder.sequence then
      add(i, holder)
    elseif holder.lease ~= lease then
      local under = '\0' .. holder.lease
      change(i, 'ZREM', entries, under .. '\0' .. holder.name, under .. '\1' .. holder.name)
      change(i, 'ZADD', entries, 0, '\0' .. lease .. '\0' .. holder.name)
      holder.lease = lease
    else
      return
    end
    write(i, holder)
  end

  -- Returns the refusal of a call; nil if a holder may be added, or is known.
  refused = function(word, key, known, lease, need)
    if not word then return CORRUPT end
    if not alive(lease) then return refusal('OVER the lease ' .. lease .. ' is over') end
    if known then return known.key ~= key and refusal('REUSED this holder has another key') or nil end
    local first = oldest(key)
    if not first or first.need == need then return end
    if first.need == 0 then return LOCKED end
    return refusal(need == 0 and 'KIND it is an event that is held, not a lock' or 'NEED its first holder said need=' ..
      first.need)
  end
end

-- == A new holder ==

local hold, withdraw, evict

if changes_holders then
  -- Whether the owner of a record is a holder of an earlier life of this node.
  local function is_predecessor(tail, name)
    local owner = holder_of(match(tail, '"held":"([^"]*)"') or '')
    return owner and owner.node == node and match(owner.name, '^%w+') ~= match(name, '^%w+')
  end

  hold = function(i, _, key, old, data)
    local name, lease, need, value = match(data, '^(%S+) (%S+) (%d+)\n(.+)$')
    local word, revision, tail = parsed(old or NONE)
    local wrong = word and no_event(tail)
    if wrong then return wrong end
    local known, over = holder_of(name), word and is_over(key, tail)
    local stays = over and ';' or old and '=' or '-'
    local problem = refused(word, key, known, lease, need + 0)
    if problem then return problem end
    bind(i, known or {name = name, lease = lease, need = need + 0, node = node, key = key, value = value}, lease)
    if known then return stays end
    if not over and (word == 'fired' or word == 'failed') then
      -- A node that was started again takes over at once.
      if not is_predecessor(tail, name) then return '=' end
      return nil, held_tail(holders[name], tail, revision), value, FIRE, node
    end
    local next = successor(key)
    if not next then return stays end
    return nil, held_tail(next), next.value, FIRE, next.node
  end
end

-- == Locks ==

local lock

if changes_holders then
  -- Has the owner of a lock own it here, too, if this server has lost the grant, and not granted it later; returns the
  -- refusal, or nil.
  local function grant_again(i, holder, token, owner, tail)
    local generation, number = match(token, '(%d+),(%d+)')
    local other, later = match(tail, '"token":%[(%d+),(%d+)%]')
    local newer = owner and (other + 0 > generation + 0 or other == generation and later + 0 > number + 0)
    if newer or not recovering() then return refusal('LOST it has been granted again, or may have been') end
    if owner and holder_of(owner) then remove(i, holder_of(owner)) end
    holder.token = token
  end

  lock = function(i, _, key, old, data)
    local name, lease, token, value = match(data, '^(%S+) (%S+) (%S+)\n(.+)$')
    local word, revision, tail, from = parsed(old or NONE)
    local wrong = word and no_event(tail)
    if wrong == COUNTER then return COUNTER end
    local known, over = holder_of(name), word and is_over(key, tail)
    local latched = not over and (word == 'fired' or word == 'failed')
    local owner = latched and wrong and match(tail, '"held":"([^"]*)"')
    if latched and not owner then return refusal('KIND it is an event that is ' .. word .. ', not a lock') end
    local problem = refused(word, key, known, lease, 0)
    local holder = known or {name = name, lease = lease, need = 0, node = node, key = key, value = value}
    if not problem and token ~= '0,0' and owner ~= name then problem = grant_again(i, holder, token, owner, tail) end
    if problem then return problem end
    -- Who does not know yet that it owns the lock may have lost it since, and this server that, too.
    local unaware = owner == name and token == '0,0' and known and known.lease ~= lease and recovering()
    bind(i, holder, lease)
    if unaware then return nil, pending_tail(word, revision, tail), sub(old, from), WITHDRAW end
    local next = holder.token and holder or not owner and successor(key)
    if not next then return over and ';' or old and '=' or '-' end
    return nil, held_tail(next, tail, owner and revision), next.value, FIRE, next.node
  end
end

-- == A holder less ==

if changes_holders then
  withdraw = function(i, kind, key, old, name)
    local mine, word, revision, tail, from = holder_of(name), parsed(old or '')
    local stays = not word and '-' or is_over(key, tail) and ';' or '='
    if not mine or mine.key ~= key or kind == LOSE and alive(mine.lease) then return stays end
    remove(i, mine)
    local owner = word and match(tail, '"held":"([^"]*)"')
    if not owner or mine.need == 0 and owner ~= name then return stays end
    local next = successor(key)
    if not next then
      return nil, pending_tail(word, revision, tail), sub(old, from), kind, kind == LOSE and mine.node or nil
    end
    if owner ~= name then return '=' end
    return nil, held_tail(next, tail, revision), next.value, FIRE, next.node
  end
end

-- == All holders ==

if changes_holders then
  -- Has the node of a lock's owner notice that it has to release it: the lock stays its own until then. Returns whether
  -- there is an owner.
  local function ask_owner(i, old)
    local owner = holder_of(match(old, '"held":"([^"]*)"') or '')
    -- Another program has removed it.
    if not owner then return false end
    change(i, 'ZREM', entries, '\0' .. owner.lease .. '\0' .. owner.name)
    change(i, 'ZADD', entries, 0, '\0' .. owner.lease .. '\1' .. owner.name)
    return true
  end

  evict = function(i, _, key, old)
    if old and find(old, '^[^\n]*"token":%[') and ask_owner(i, old) then return '=' end
    if old and find(old, '^[^\n]*"count":%d') then
      local outcome, members, value = decide(RESET, key, old, '', nil, i)
      return outcome, members, value, RESET
    end
    local names = try('ZRANGEBYLEX', entries, '[' .. key .. '\0', '(' .. key .. '\0:')
    unreadable = unreadable or failure(names, entries)
    for _, entry in ipairs(names) do
      local holder = holder_of(match(entry, '[^%z]*$'))
      if holder then remove(i, holder) end
    end
    local word, revision, tail, from = parsed(old or NONE)
    if not word then return nil, '', '', RESET end
    if word ~= 'fired' and word ~= 'failed' then return old and '=' or '-' end
    return nil, pending_tail(word, revision, tail), sub(old, from), RESET
  end
end

-- == Counters ==
-- All counts of one key in a batch, with nothing else for that key between them, are one change. So a million counts do
-- not push the lines of other keys out of the history.

-- The counters that this batch has changed, by key; and the one that the present call counts on.
local counters, counter
local counter_of, tail_of

if counts then
  counters, commands = {}, commands or {}

  -- Returns a counter that begins where a record stood.
  local function begin(word, revision, tail, value)
    local members = others_of(tail)
    -- Keep the last wake, for waiters that were disconnected, as a reset does.
    if word == 'pulsed' or word == 'fired' or word == 'failed' then
      members = ',"wake":["' .. word .. '",' .. revision .. ']' .. members
    end
    return {kind = COUNT, count = 0, goal = 0, members = members, value = value, begins = true}
  end

  -- Returns the counter of a key; nil and the refusal if the key has something else.
  counter_of = function(key, old)
    if counters[key] and counters[key].record == old then return counters[key] end
    local word, revision, tail, from = parsed(old or NONE)
    if not word then return nil, CORRUPT end
    local latched, total = word == 'fired' or word == 'failed', match(tail, '"count":(%d+)')
    if total then
      local since = match(tail, '"since":(%b[])') or '[' .. revision .. ']'
      return {kind = latched and FIRE or COUNT, count = total + 0, goal = (match(tail, '"goal":(%d+)') or 0) + 0,
        members = others_of(tail), value = sub(old, from), since = latched and since}
    end
    if no_event(tail) == LOCKED then return nil, LOCKED end
    if size and size(key) > 0 then return nil, refusal('KIND it is an event that is held, not a counter') end
    if latched and not is_over(key, tail) then
      return nil, refusal('KIND it is an event that is ' .. word .. ', not a counter; reset ends it')
    end
    return begin(word, revision, tail, old and sub(old, from) or '')
  end

  -- Returns the further members of its record.
  tail_of = function(of)
    local tail = format(',{"count":%.0f', of.count)
    if of.goal > 0 then tail = tail .. format(',"goal":%.0f', of.goal) end
    if of.since then tail = tail .. ',"since":' .. of.since end
    return tail .. of.members
  end
end

-- == Names that count once ==

-- The members of `entries` that this batch adds, and the keys whose earlier ones it removes.
local joined, cleared
local clear, has_counted, names_refused

if counts then
  joined, cleared = {}, {}

  clear = function(i, key)
    local start = key .. '\0who\0'
    cleared[key] = true
    forget_names(i, key)
    for member in pairs(joined) do
      if sub(member, 1, #start) == start then joined[member] = nil end
    end
  end

  has_counted = function(key, member)
    return joined[member] or not cleared[key] and type(try('ZSCORE', entries, member)) == 'string'
  end

  -- Returns why names could not be written, or removed: that is done last, when nothing can be refused any more.
  names_refused = function()
    return next(joined) and failure(try('ZADD', entries, 0, ''), entries)
      or next(cleared) and failure(try('ZREMRANGEBYLEX', entries, '(', '(\1'), entries)
  end
end

-- == The record of a counter ==

local replace, note_counter, as_left

if counts then
  -- Puts the record of a counter that this batch has changed before in the place of the earlier one.
  replace = function(key)
    local record = '["' .. KINDS[counter.kind] .. record_start .. counter.number .. record_end .. tail_of(counter)
      .. ']\n' .. counter.value
    made[counter.call], current[key], written[counter.place], counter.record = record, record, record, record
    if entry then
      local omits = #counter.value > largest
      entry[counter.place - (after and 2 or 4)] = omits and sub(record, 1, -2 - #counter.value) or record
    end
  end

  -- Notes that the counter has a record of its own in this batch, and returns the outcome.
  note_counter = function(i, key, old)
    if counter.begins and old then note_due(FIRE, key) end
    shown = shown or {}
    counters[key], shown[i] = counter, counter
    counter.call, counter.place, counter.number, counter.record, counter.begins = i, w, text, made[i], false
    return format('%.0f*', counter.count)
  end

  -- Returns what to show for the record of a key: its counter, if further counts of this batch may change it.
  as_left = function(key, record)
    local of = counters[key]
    return of and of.record == record and of or record
  end
end

-- == A count ==

local count_up

if counts then
  -- Adds to the counter, and fires it at its goal.
  local function add_to(i, key, n, goal, member)
    if counter.begins then clear(i, key) end
    if member then
      joined[member], commands[i] = true, commands[i] or {}
      table.insert(commands[i], {'ZADD', entries, 0, member})
    end
    counter.count, counter.goal = counter.count + n, counter.goal > 0 and counter.goal or goal
    if counter.kind == FIRE or counter.goal > 0 and counter.count >= counter.goal then
      counter.kind, counter.members = FIRE, gsub(counter.members, ',"wake":%b[]', '')
      counter.value = format('%.0f', counter.count)
    end
  end

  count_up = function(i, _, key, old, data)
    local n, goal, who = match(data, '^(%d+),(%d+),(.*)$')
    local wrong
    counter, wrong = counter_of(key, old)
    if wrong then return wrong end
    if #who > 512 or find(who, '\194[\128-\159]') then return refusal('ERR this is no name') end
    goal = goal + 0
    if goal > 0 and counter.goal > 0 and goal ~= counter.goal then
      return refusal(format('GOAL its goal is %.0f, not %.0f; nothing was counted', counter.goal, goal))
    end
    local member = who ~= '' and key .. '\0who\0' .. who
    if member and not counter.begins and has_counted(key, member) then
      shown = shown or {}
      shown[i] = counter.call and counter or old
      return format('%.0f=', counter.count)
    end
    if math.max(counter.count + n, goal) > HIGHEST then return refusal('ERR a counter ends at 2^53 - 1') end
    add_to(i, key, n, goal, member)
    if not counter.call then return nil, tail_of(counter), counter.value, counter.kind end
    replace(key)
    return format('%.0f&', counter.count)
  end
end

-- == Special calls ==

-- What decides on them, and the shape of their data.
local others = (changes_holders or counts) and
  {[HOLD] = hold, [WITHDRAW] = withdraw, [LOSE] = withdraw, [EVICT] = evict, [COUNT] = count_up,
  [LOCK] = lock}
local shapes = special and {
  [RESET] = '^%d+,%d+$', [END] = '^%d+,%d+$', [TIMED] = '^[1-9]%d*\n.', [MOVE] = '^[1-9]%d*$',
  [HOLD] = '^%w+%.%d+ %w+%.%d+ [1-9]%d*\n.', [WITHDRAW] = '^%w+%.%d+$', [LOSE] = '^%w+%.%d+$', [EVICT] = '^%-$',
  [COUNT] = '^[1-9]%d*,%d+,%C*$', [LOCK] = '^%w+%.%d+ %w+%.%d+ %d+,%d+\n.',
}

-- == Calls ==

local names = nodes and string.gmatch(nodes, '[^,]+')
for i = 1, calls do
  local kind, key, value, outcome, tail, ttl = kinds[i], ARGV[i + 2], ARGV[i + 2 + calls], nil, '', nil
  if key == '' or value == '' and kind ~= RESET or special and value ~= '' and not find(value, shapes[kind] or '') then
    return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
  end
  if special and (kind == TIMED or kind == MOVE) then ttl, value = match(value, '^(%d+)\n?(.*)$') end
  local old, caller, as, by = current[key] or found[i + 3], names and names(), nil, nil
  record_end = caller and '],' .. now .. ',"' .. caller .. '"' or record_end
  if others and others[kind] then
    outcome, tail, value, as, by = others[kind](i, kind, key, old, value)
  elseif old then
    outcome, tail, value, as, by = decide(kind, key, old, value, ttl, i)
  elseif special and (kind == RESET or kind == MOVE or kind == END) then
    outcome = '-'
  end
  local record = old
  if not outcome then
    count = count + 1
    text = format(decimal, count)
    local middle = record_end
    if special or as then
      -- An end is told under the name of the node whose event it is.
      by = by or kind == END and match(old, ',"([^"]*)"')
      middle = by and '],' .. now .. ',"' .. by .. '"' or record_end
      tail = ttl and ',{"ttl":' .. ttl .. '}' or tail
    end
    record = '["' .. KINDS[as or kind] .. record_start .. text .. middle .. tail .. ']\n' .. value
    made[i], current[key] = record, record
    written[w + 1], written[w + 2] = key, record
    if entry or #value > largest then
      entry = entry or {unpack(written, 5, w)}
      entry[#entry + 1], entry[#entry + 2] = key, #value > largest and sub(record, 1, -2 - #value) or record
    end
    w = w + 2
    if (old or kind ~= FIRE) and kind ~= COUNT then note_due(as or kind, key, ttl) end
    outcome = special and (kind == COUNT and note_counter(i, key, old) or (kind == RESET or kind == END or ttl) and '*')
      or (named or as) and '*' or '+'
  end
  if outcome ~= '+' and outcome ~= '-' and kind ~= COUNT and byte(outcome) ~= 33 then
    shown = shown or {}
    shown[i] = counters and as_left(key, record) or record
  end
  outcomes[i] = outcome
end

-- == Outcomes ==
-- They are remembered without values.

if unreadable then return redis.error_reply(unreadable) end

local remembered
if shown then
  remembered = {unpack(outcomes)}
  for i, record in pairs(shown) do
    -- A counter, as the last of these calls leaves it.
    if type(record) == 'table' then record = record.record end
    local header = match(record, '^[^\n]*')
    remembered[i] = outcomes[i] .. #header .. ':' .. header
    outcomes[i] = outcomes[i] .. #record .. ':' .. record
  end
end
local answer = generation .. ' ' .. spent .. ' ' .. now .. '\n'
local body = calls == 1 and outcomes[1] or table.concat(outcomes)
if named and byte(body) == 33 then
  -- A refusal is not remembered under a name, so that the call can be repeated once its cause is gone.
  return answer .. body
end

-- == Writing ==
-- An error in any part (permissions, memory, a read-only server, a wrong type) refuses the whole batch. The doorbell's
-- watchers cannot read before this script has ended.

-- The end of the head, after its revision, and its beginning.
local head_end = ' ' .. process .. ' ' .. data .. ' ' .. follows
local head_start = LAYOUT .. ' ' .. generation .. ' '
local changed = count > first
written[2] = called .. '\n' .. answer .. (remembered and table.concat(remembered) or body)
if changed then written[4] = head_start .. text .. head_end else written = {CALL, written[2]} end
if not last or last == NOTHING then
  pending = pending or {}
  pending[#pending + 1] = format('%.0f', milliseconds + life)
  pending[#pending + 1] = CALL
end
if registers then
  pending = pending or {}
  pending[#pending + 1], pending[#pending + 2] = 'inf', ''
  soonest = math.min(soonest or math.huge, milliseconds + math.min(retention, life))
end

local id = generation .. '-' .. text
local err = failure(try('PUBLISH', doorbell, 'x'), doorbell) or failure(try('HSET', records, unpack(written)), records)
if not err then
  err = counters and names_refused() or pending and failure(try('ZADD', due, unpack(pending)), due)
    or soonest and failure(try('ZADD', idle, 'LT', format('%.0f', soonest),
      -- The name of the map.
      (gsub(match(records, '/(.*)') or records, '}', ''))), idle)
    or changed and failure(try('XADD', log, id, unpack(entry or written, entry and 1 or 5)), log)
  if err then
    -- The numbers are used up: if another program has written higher ids to the stream, the next batch gets past them.
    local used = text ~= newest and ' ' .. text or ''
    restore(HEAD, not begins and head_start .. newest .. head_end .. used or head)
    restore(CALL, not named and (last or NOTHING))
    for i = 1, calls do restore(ARGV[i + 2], found[i + 3], was and was[ARGV[i + 2]]) end
  end
end
if err then return redis.error_reply(err) end

-- == Messages ==
-- If publishing is forbidden, the call gets the error, and its key is restored.

local refused
local prefix = doorbell .. ':'
for i = 1, calls do
  local record, key = made[i], ARGV[i + 2]
  local reason = refused and refused[key]
  if record and not reason then
    local channel = prefix .. key
    local reply = try('PUBLISH', channel, record)
    if type(reply) == 'table' then
      reason = failure(reply, channel)
      restore(key, found[i + 3], was and was[key])
      if ended then ended[key] = nil end
      refused = refused or {}
      refused[key] = reason
    end
  end
  if reason then
    outcomes[i] = (record and '~!' or '!') .. #reason .. ':' .. reason
    if remembered then remembered[i] = outcomes[i] end
  end
end

-- == Refusals ==
-- Write the entry again, without the refused calls, under a new number: the stream takes no number twice.

if refused then
  entry = entry or {unpack(written, 5, w)}
  local remaining, published, line_number, at = {}, nil, first, after and 2 or 0
  for i = 1, at do remaining[i] = entry[i] end
  for i = 1, calls do
    if made[i] then
      line_number, at = line_number + 1, at + 2
      if not refused[entry[at - 1]] then
        remaining[#remaining + 1], remaining[#remaining + 2] = entry[at - 1], entry[at]
        published = format('%.0f', line_number)
      end
    end
  end
  if not failure(try('XDEL', log, id), log) and published then
    count = count + 1
    text = format('%.0f', count)
    try('XADD', log, generation .. '-' .. text, unpack(remaining))
  end
  -- A generation begins with a line, as its first line says which revision it follows.
  local used = text ~= (published or newest) and ' ' .. text or ''
  restore(HEAD, (published or not begins) and head_start .. (published or newest) .. head_end .. used or head)
  body = table.concat(outcomes)
  restore(CALL, not named and called .. '\n' .. answer .. (remembered and table.concat(remembered) or body))
end

-- == Cleanup ==
-- Now and then, and whenever something was added to the due set.

for i = 1, commands and calls or 0 do
  for _, change in ipairs(find(outcomes[i], '^~?!') and {} or commands[i] or {}) do try(unpack(change)) end
end
if ended then
  -- Latched records must not be forgotten.
  local latched = {}
  for key in pairs(ended) do latched[#latched + 1] = key end
  if #latched > 0 then try('ZREM', due, unpack(latched)) end
end
if pending or count % 16 < count - first then
  -- Trim the history in steps. Numbers continue through the generations, so the oldest entry shows the excess.
  local step = 16 * math.max(1, math.floor(lines / 256))
  for _ = 1, count % step < count - first and 8 or 0 do
    local oldest = try('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    local g, n = match(oldest and oldest[1] or '', '^(%d+)%-(%d+)$')
    if not n or n + 0 > count - lines then break end
    try('XTRIM', log, 'MINID', g .. '-' .. format('%.0f', count - lines + 1))
  end
  -- More than were added, so that a backlog shrinks.
  forget(milliseconds, life, calls + 3)
end
return answer .. body
