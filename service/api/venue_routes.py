"""The rows of the route table about the venue and its wallet."""

from service.api.route import ApiResponse, ApiRoute
from service.api.venue_schemas import BalanceListSchema, BalanceQuerySchema, VenueSchema
from service.domain.api_key import Scope

VENUE_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute(
        "GET",
        "/api/venue",
        Scope.READ,
        lambda groups: groups.venue.describe,
        "getVenue",
        "Where orders are executed, with which wallet, and within which limits",
        responses=(ApiResponse(200, "The venue.", VenueSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/balances",
        Scope.READ,
        lambda groups: groups.venue.balances,
        "listBalances",
        "What the wallet of all accounts holds: free, in flight, and its worth in US dollars",
        at_most=1,
        query=BalanceQuerySchema,
        responses=(ApiResponse(200, "A page of balances.", BalanceListSchema),),
        problems=(503,),
    ),
)
