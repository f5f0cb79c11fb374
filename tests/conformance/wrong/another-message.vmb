#= 5:1: expected G< OPEN_RESULT, got G< GPADL_CREATED relid=9
version 5.3

G> GPADL_HEADER relid=9
G< OPEN_RESULT
