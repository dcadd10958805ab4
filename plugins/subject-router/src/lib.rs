//! x
use weir_plugin_sdk::prelude::*;
/// x
pub struct SubjectRouter;
impl Policy for SubjectRouter {
    type Config = NoConfig;
    fn manifest() -> Manifest {
        manifest!("sends messages by a table of subject patterns").memo_by(&[Column::Subject])
    }
    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self)
    }
}
impl Router for SubjectRouter {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        to.send(message.subject());
    }
}
weir_plugin_sdk::router!(SubjectRouter);
