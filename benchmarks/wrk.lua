-- wrk's side of http_server.py and asgi.py. Arguments after "--": bytes of body (0: a GET without), requests that leave
-- together, "json" for a body that is a JSON string.
-- Prints what came of it as one line of JSON.

function init(args)
   local size, together = tonumber(args[1]), tonumber(args[2])
   if size > 0 then
      wrk.method = "POST"
      wrk.body = args[3] == "json" and '"' .. string.rep("x", size - 2) .. '"' or string.rep("x", size)
      wrk.headers["Content-Type"] = args[3] == "json" and "application/json" or nil
   end
   if together > 1 then
      local batch = string.rep(wrk.format(), together)
      request = function() return batch end
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      '{"requests": %d, "bytes": %d, '
      .. '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.bytes,
      e.connect, e.read, e.write, e.status, e.timeout))
end
