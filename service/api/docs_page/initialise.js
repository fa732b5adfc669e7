"use strict";

SwaggerUIBundle({
  url: "openapi.json", // relative to the page, so that it works under any ROOT_PATH
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true, // x-scope: the scope that an API key needs
  validatorUrl: "none", // the default would send the document's address to another host
});
