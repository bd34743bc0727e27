//! A poem-openapi endpoint with constant JSON: the cost of the framework alone.

use poem::{Route, Server, listener::TcpListener};
use poem_openapi::{Object, OpenApi, OpenApiService, payload::Json};

struct Api;

#[derive(Object)]
struct Hello {
    hello: String,
}

#[OpenApi]
impl Api {
    #[oai(path = "/hello", method = "get")]
    async fn hello(&self) -> Json<Hello> {
        Json(Hello { hello: "world".to_owned() })
    }

    #[oai(path = "/livez", method = "get")]
    async fn livez(&self) -> Json<Hello> {
        Json(Hello { hello: "alive".to_owned() })
    }
}

/// Serves until the process is killed.
pub(crate) async fn serve(port: u16) -> anyhow::Result<()> {
    let service = OpenApiService::new(Api, "hello", "1");
    Ok(Server::new(TcpListener::bind(("127.0.0.1", port))).run(Route::new().nest("/", service)).await?)
}
