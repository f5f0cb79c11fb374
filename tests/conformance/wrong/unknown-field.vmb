# A field that the message does not have.
#= 4:25: unknown field 'vcpu' of OPEN_CHANNEL
version 5.3
G> OPEN_CHANNEL relid=1 vcpu=3
