# A thread that sleeps, on Ruby's own stack of 1 MB within the native one.
Thread.new { sleep }
puts "ready"
$stdout.flush
sleep 900
