# A message that does not exist.
#= 4:4: unknown G> message 'OPEN_CHANEL'; did you mean OPEN_CHANNEL?
version 5.3
G> OPEN_CHANEL relid=1
